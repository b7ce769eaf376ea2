"""Beyond. Attention and a tiny transformer.

Question: How can a network look back at exactly the place in a text that tells what comes next?

An LSTM (step 60) carries what it has read in one state of fixed size. Attention keeps everything, and lets each place
look at all places before it. Each place makes three rows of numbers from what it holds: a query, what it looks for; a
key, what it can be found by; a value, what it has to tell. Query and key are compared by a product, softmax (step 47)
makes weights with the sum 1 from that, and what a place receives is the weighted sum of the values:

    weights = softmax(q k^T / sqrt(D))        (L, D) (D, L) -> (L, L)
    y = weights v                             (L, L) (L, D) -> (L, D)

A product of D numbers grows like sqrt(D), hence the division. A place must not see what comes after it, or guessing the
next character would be no task: scores of later places become minus infinity, and their weights 0. This is called
causal. Several heads do this side by side, each with a part of the numbers, and can look for different things.

A transformer is a stack of two kinds of layers with shortcuts around them: attention moves information between places,
an MLP works on each place by itself. LayerNorm normalises the numbers of one place. As attention does not know which
place is where, a learned row of numbers for each place is added to that for each character.

The text is an old nursery rhyme that grows by a line with each verse. The last verse is not trained on.

New: L.MultiHeadAttention, L.LayerNorm, L.EmbedID, optimizers.AdamW
Look at: the rhyme as the network writes it before and after training, which characters of the last verse surprise it,
and at which places it looks.
Source: Vaswani et al., arXiv:1706.03762.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where road.py is
from road import read_options, show

import numpy as np

import dezero
import dezero.functions as F
import dezero.layers as L
from dezero import Parameter, cuda, optimizers, schedules


def attention_weights(q, k):
    """Say how much each place looks at each: (..., L, D), (..., L, D) -> (..., L, L), rows with the sum 1."""
    size, D = q.shape[-2:]
    scores = q @ F.swapaxes(k, -1, -2) / D**0.5
    later = np.triu(np.ones((size, size), bool), k=1)  # above the diagonal: keys that come after the query
    return F.softmax(F.where(later, -np.inf, scores), axis=-1)


def split_heads(x, heads):
    """(N, L, E) -> (N, heads, L, E / heads)."""
    N, size, E = x.shape
    return x.reshape(N, size, heads, E // heads).transpose(0, 2, 1, 3)


class Block(L.Layer):
    """Look back, then think: (N, L, E) -> (N, L, E)."""

    def __init__(self, E, heads):
        super().__init__()
        self.norm1, self.attention = L.LayerNorm(E), L.MultiHeadAttention(E, heads)
        self.norm2, self.wide, self.narrow = L.LayerNorm(E), L.Linear(4 * E), L.Linear(E)

    def forward(self, x):
        x = x + self.attention(self.norm1(x), is_causal=True)
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class Transformer(dezero.Model):
    """Scores for the character that follows each place: ids (N, L) -> (N, L, characters)."""

    def __init__(self, characters, places, E=64, heads=4, blocks=2):
        super().__init__()
        self.places = places
        self.embed = L.EmbedID(characters, E)
        self.where = Parameter(0.1 * np.random.randn(places, E).astype(np.float32), name="where")
        self.blocks = L.LayerList([Block(E, heads) for _ in range(blocks)])
        self.norm, self.out = L.LayerNorm(E), L.Linear(characters)

    def start(self, ids):
        # L.EmbedID begins with numbers of size 1, which training would take long to change: a tenth is enough.
        return 0.1 * self.embed(ids) + self.where[: ids.shape[1]]

    def forward(self, ids):
        x = self.start(ids)
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))


def look(model, ids):
    """Return the weights of attention of every block, on the way through a model: (blocks, heads, L, L)."""
    x, found = model.start(ids), []
    for block in model.blocks:
        layer, inside = block.attention, block.norm1(x)
        q, k = (split_heads(part(inside), layer.num_heads) for part in (layer.query, layer.key))
        found.append(cuda.as_numpy(attention_weights(q, k))[0])
        x = block(x)
    return np.stack(found)


def write(model, ids, length):
    """Go on from `ids`, a character at a time, each drawn with the probability that the model gives it."""
    ids = list(ids)
    for _ in range(length):
        with dezero.test_mode(), dezero.no_grad():
            scores = model(np.array([ids[-model.places :]])).data[0, -1]
        p = F.softmax(scores.astype(np.float64), axis=0).data
        ids.append(np.random.choice(len(p), p=p))
    return ids


# Demonstration --------------------------------------------------------------------------------------------------------

LINES = """malt|lay in the house that Jack built.
rat|ate the malt
cat|killed the rat
dog|worried the cat
cow with the crumpled horn|tossed the dog
maiden all forlorn|milked the cow with the crumpled horn
man all tattered and torn|kissed the maiden all forlorn
priest all shaven and shorn|married the man all tattered and torn
cock that crowed in the morn|waked the priest all shaven and shorn
farmer sowing his corn|kept the cock that crowed in the morn
horse and the hound and the horn|belonged to the farmer sowing his corn"""


def rhyme():
    """Return the verses of The House That Jack Built, each one line longer than the one before."""
    verses, told = ["This is the house that Jack built.\n"], ""
    for line in LINES.splitlines():
        who, what = line.split("|")
        told = f"That {what}\n{told}"
        verses.append(f"This is the {who}\n{told}")
    return verses


options = read_options(__doc__, gpu=True)
np.random.seed(0)
*verses, last_verse = rhyme()
text = "\n".join(verses)
alphabet = sorted({*text, *last_verse})
ids = np.array([alphabet.index(c) for c in text])
test_ids = np.array([alphabet.index(c) for c in last_verse])
print(f"characters to train on = {len(ids)}, to test with = {len(test_ids)}, different ones = {len(alphabet)}")

x = dezero.Variable(np.random.randn(1, 6, 8).astype(np.float32))
layer = L.MultiHeadAttention(8, num_heads=2)
q, k, v = (split_heads(part(x), 2) for part in (layer.query, layer.key, layer.value))
y = attention_weights(q, k) @ v
y = layer.out(y.transpose(0, 2, 1, 3).reshape(1, 6, 8))  # the heads side by side again
print(f"L.MultiHeadAttention gives the same = {np.allclose(y.data, layer(x, is_causal=True).data, atol=1e-5)}")

places = 64
model = Transformer(len(alphabet), places)
if options.gpu:
    model.to_gpu()


def as_text(numbers):
    return "".join(alphabet[i] for i in numbers)


def draw_batch(size):
    """Return pieces of the text, and the same pieces one character on: what is to be guessed."""
    starts = np.random.randint(len(ids) - places, size=size)
    x, t = (np.stack([ids[i + d : i + d + places] for i in starts]) for d in (0, 1))
    return (cuda.as_cupy(x), cuda.as_cupy(t)) if options.gpu else (x, t)


def losses_of(ids):
    """Return -log p of each character but the first, p being given what comes before, as far as the model can see."""
    count = len(ids) - places
    x = np.stack([ids[i : i + places] for i in range(count)])
    with dezero.test_mode(), dezero.no_grad():
        log_p = cuda.as_numpy(F.log_softmax(model(cuda.as_cupy(x) if options.gpu else x), axis=2))
    beginning = [log_p[0, i, ids[i + 1]] for i in range(places - 1)]
    return -np.array(beginning + [log_p[i, -1, ids[i + places]] for i in range(count)])


share = np.bincount(ids) / len(ids)
share = share[share > 0]
print(f"loss of guesses by how frequent characters are = {-(share * np.log(share)).sum():.4f}")
print(f"loss before training = {losses_of(test_ids).mean():.4f}")

model.to_cpu()  # a character at a time is no work for a GPU
print(f"written before training: {as_text(write(model, [alphabet.index('T')], 60))!r}")
if options.gpu:
    model.to_gpu()

max_iter = 400
batch_size = 16
optimizer = optimizers.AdamW(alpha=0.003).setup(model)
optimizer.add_hook(optimizers.ClipGrad(1.0))
schedule = schedules.Cosine(optimizer, steps=max_iter, warm_up=20)  # the rate climbs for 20 iterations, then falls
history = []
for i in range(1, max_iter + 1):
    x, t = draw_batch(batch_size)
    loss = F.softmax_cross_entropy(model(x).reshape(-1, len(alphabet)), t.reshape(-1))
    model.cleargrads()
    loss.backward()
    optimizer.update()
    schedule.step()
    history.append(float(loss.data))
    if i in (50, 100, 200, 400):
        test_loss = losses_of(test_ids).mean()
        print(f"iteration {i:3}: training loss = {np.mean(history[-20:]):.4f}, test loss = {test_loss:.4f}")

losses = losses_of(test_ids)
model.to_cpu()
print("written after training:")
print(as_text(write(model, [alphabet.index("T")], 150)))
new = last_verse.index("That kept")  # two lines are new, the others end other verses, too
print(f"loss per character of the two new lines = {losses[: new - 1].mean():.4f}")
print(f"loss per character of the others = {losses[new - 1 :].mean():.4f}")
print(f"loss per character of the last verse = {losses.mean():.4f}")

piece = test_ids[new : new + 34]
with dezero.no_grad():
    weights = look(model, piece[None])


def draw_verse(figure):
    left, right = figure.subplots(1, 2, width_ratios=[1, 2])
    left.semilogy(range(1, max_iter + 1), history)
    left.set(title="Training", xlabel="iteration", ylabel="loss per character")
    lines = last_verse.splitlines()
    table = np.full((len(lines), max(map(len, lines)) + 1), np.nan)
    places_of = [(row, column) for row, line in enumerate(lines) for column in range(len(line) + 1)]
    for (row, column), loss in zip(places_of[1:], losses, strict=True):
        table[row, column] = loss
    image = right.imshow(table, cmap="Reds", vmin=0, vmax=5, aspect="auto")
    for row, line in enumerate(lines):
        for column, letter in enumerate(line):
            color = "white" if table[row, column] > 2.5 else "black"
            right.text(column, row, letter, ha="center", va="center", family="monospace", color=color)
    right.set(title="The verse it has not seen, red where a character surprises", xlabel="character", ylabel="line")
    figure.colorbar(image, label="loss")


def draw_attention(figure):
    letters = [c if c != "\n" else "¶" for c in as_text(piece)]
    cells = figure.subplots(2, 4)
    for (block, head), axes in np.ndenumerate(cells):
        axes.imshow(weights[block, head], cmap="Blues")
        axes.set_xticks(range(len(piece)), letters if block else [], fontsize=6)
        axes.set_yticks(range(len(piece)), [] if head else letters, fontsize=6)
        axes.set_title(f"block {block + 1}, head {head + 1}", fontsize=10)
    figure.suptitle("Each row is a place that looks: dark where it looks, never to the right of itself")
    figure.supxlabel("place seen")
    figure.supylabel("place that looks")


show("transformer_verse", draw_verse, size=(14, 5))
show("transformer_attention", draw_attention, size=(14, 7.5))

# Exercise: let the network go on from a beginning of your own, such as "That killed the cow". What does it make of it?
# Hint: `write` takes any beginning, as numbers: [alphabet.index(c) for c in "That killed the cow"].
