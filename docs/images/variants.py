"""Draws variants.svg, the picture of the four variants: variants.py > variants.svg."""

NUM_HEADS = 8
BOX, GAP = 20, 6
PANEL, LEFT = 248, 92  # LEFT: the column of labels
HEADS_WIDTH = NUM_HEADS * BOX + (NUM_HEADS - 1) * GAP
QUERY_Y, MADE_Y, CACHED_Y = 74, 158, 258
CACHED_HEIGHT = 2 * BOX + 2
WIDTH, HEIGHT = LEFT + 4 * PANEL + 8, 376

QUERY, KEY, VALUE, BAND, EDGE, TEXT, MUTED = (
    "#3b6ea8", "#f0a03c", "#f6c77f", "#fdf1df", "#9aa5b1", "#1f2933", "#52606d")


def text(x, y, words, size=12, color=TEXT, weight="normal", anchor="middle"):
    return (f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" font-weight="{weight}" '
            f'text-anchor="{anchor}">{words}</text>')


def box(x, y, width, height, label, fill, ink=TEXT, dashed=False):
    line = f'stroke="{MUTED}" stroke-dasharray="3 2"' if dashed else f'stroke="{fill}"'
    return (f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" '
            f'fill="{fill}" {line}/>' + text(x + width / 2, y + height / 2 + 4, label, 11, ink))


def edge(x1, y1, x2, y2, dashed=False):
    dash = ' stroke-dasharray="3 2"' if dashed else ""
    return f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g}" stroke="{EDGE}"{dash}/>'


def centers(left, count):
    """The middles of `count` heads, each in the middle of its group of query heads."""
    group = NUM_HEADS // count
    first = [left + head * (BOX + GAP) + BOX / 2 for head in range(NUM_HEADS)]
    return [sum(first[i * group:(i + 1) * group]) / group for i in range(count)]


def heading(left, name, words):
    middle = left + HEADS_WIDTH / 2
    return [text(middle, 34, name, 19, weight="bold"), text(middle, 54, words, 12, MUTED)]


def queries(left):
    return [box(x - BOX / 2, QUERY_Y, BOX, BOX, "Q", QUERY, "#ffffff")
            for x in centers(left, NUM_HEADS)]


def key_value(x):
    return [box(x - BOX / 2, CACHED_Y + row * (BOX + 2), BOX, BOX, label, fill)
            for row, (label, fill) in enumerate((("K", KEY), ("V", VALUE)))]


def footer(left, formula, words):
    middle = left + HEADS_WIDTH / 2
    return [text(middle, 342, formula, 14, weight="bold"), text(middle, 362, words, 12, MUTED)]


def grouped(left, name, words, num_kv_heads, formula, numbers):
    parts = heading(left, name, words)
    for head, x in enumerate(centers(left, NUM_HEADS)):
        shared = centers(left, num_kv_heads)[head * num_kv_heads // NUM_HEADS]
        parts.append(edge(x, QUERY_Y + BOX, shared, CACHED_Y))
    for x in centers(left, num_kv_heads):
        parts += key_value(x)
    return parts + queries(left) + footer(left, formula, numbers)


def latent(left):
    """Keys and values are made on the way; the rotated key goes into the keys alone."""
    latent_width, rope_width, half = 122, 74, BOX / 2 + 1
    rope_left = left + HEADS_WIDTH - rope_width
    parts = heading(left, "MLA", "multi-head latent")
    for x in centers(left, NUM_HEADS):
        parts.append(edge(x, QUERY_Y + BOX, x, MADE_Y))
        parts.append(edge(x, MADE_Y + BOX, left + latent_width / 2, CACHED_Y, dashed=True))
        parts.append(edge(x - half / 2, MADE_Y + BOX, rope_left + rope_width / 2, CACHED_Y,
                          dashed=True))
        parts.append(box(x - half, MADE_Y, half, BOX, "K", "#ffffff", dashed=True))
        parts.append(box(x, MADE_Y, half, BOX, "V", "#ffffff", dashed=True))
    parts.append(box(left, CACHED_Y, latent_width, CACHED_HEIGHT, "latent c_KV", KEY))
    parts.append(box(rope_left, CACHED_Y, rope_width, CACHED_HEIGHT, "rotated key", VALUE))
    return parts + queries(left) + footer(left, "latent + rope", "whatever n is")


def picture():
    left = [LEFT + panel * PANEL + (PANEL - HEADS_WIDTH) / 2 for panel in range(4)]
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
             f'<rect x="8" y="{CACHED_Y - 12}" width="{WIDTH - 16}" height="{CACHED_HEIGHT + 24}" '
             f'rx="6" fill="{BAND}"/>']
    for y, words in ((QUERY_Y + 14, "query heads"), (MADE_Y + 14, "not stored"),
                     (CACHED_Y + 25, "cached"), (342, "elements"), (362, "per token")):
        parts.append(text(20, y, words, 12, MUTED, anchor="start"))
    parts += grouped(left[0], "MHA", "multi-head", 8, "2 n d", "n = 8 query heads: 16 d")
    parts += grouped(left[1], "GQA", "grouped-query", 2, "2 g d", "g = 2 groups: 4 d")
    parts += grouped(left[2], "MQA", "multi-query", 1, "2 d", "one group")
    parts += latent(left[3])
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
         f'height="{HEIGHT}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">',
         "<title>What each variant caches for a token: a key and a value per query head in MHA, "
         "per group of heads in GQA, one for all in MQA; in MLA a latent and a rotated key</title>"]
        + parts + ["</svg>"])


if __name__ == "__main__":
    print(picture())
