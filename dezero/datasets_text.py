"""Text, character by character."""

from __future__ import annotations

import numpy as np

from dezero.datasets_files import PublishedDataset, TextFile

__all__ = ["Shakespear", "Shakespeare"]


class Shakespeare(PublishedDataset):
    """Shakespeare's plays, 40,000 lines, character by character: data and label (1115393,) int, one step apart.

    A character's id is its place among the different characters, in the order in which they first appear: `char_to_id`
    and `id_to_char` are dicts. The file input.txt, 1.1 MB, is read from `data_dir`, or from the folder tiny-shakespeare
    in the cache folder, to which it is downloaded when it is not there. It is checked against its SHA-256.

    Args:
        train: nothing is set apart for testing: the text is the same (default: True).
        transform: applied to each id (default: none).
        target_transform: applied to each id that follows (default: none).
        data_dir: the folder of the file; nothing is downloaded then (default: the cache folder's tiny-shakespeare).

    Raises FileNotFoundError or ValueError for a file missing or wrong in `data_dir`, and OSError when the cache has no
    good file and none can be downloaded.

    A. Karpathy: char-rnn, 2015.
    """

    mirrors = ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",)
    folder = "tiny-shakespeare"
    file = TextFile("input.txt", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed")

    def prepare(self) -> None:
        characters = np.array(list(self.load(self.file)))
        known, first, which = np.unique(characters, return_index=True, return_inverse=True)
        order = np.argsort(first)  # np.unique has them in the alphabet's order
        ids = np.argsort(order)[which]
        self.id_to_char = {number: str(known[place]) for number, place in enumerate(order)}
        self.char_to_id = {character: number for number, character in self.id_to_char.items()}
        self.data, self.label = ids[:-1], ids[1:]


class Shakespear(Shakespeare):
    """Shakespeare, as DeZero spells it."""
