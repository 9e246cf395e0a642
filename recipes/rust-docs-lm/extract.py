#!/usr/bin/env python3
"""Turn the HTML of the `rust-docs` component into a clean, deduplicated corpus.

    python extract.py --html "$(rustc --print sysroot)/share/doc/rust/html" --out build

Writes `train.jsonl`, `valid.jsonl` and `heldout.jsonl` (one document a line:
path, group, text) and `heldout.txt`. Nothing here is random: files are read in
sorted order and the split is a hash of the path.
"""

import argparse
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

from lxml import html as lxml_html

# Longer prose comes first, so that where two pages share a block the book keeps it.
# The embedded book is left out: its prose is CC-BY-SA-4.0, the rest is MIT OR Apache-2.0.
# (folder, group): the group decides how often training sees a document.
BOOKS = [
    ("book", "prose"),
    ("reference", "prose"),
    ("nomicon", "prose"),
    ("rust-by-example", "prose"),
    ("edition-guide", "prose"),
    ("cargo", "prose"),
    ("rustdoc", "prose"),
    ("style-guide", "prose"),
    ("clippy", "prose"),
    ("error_codes", "prose"),
    ("rustc", "api"),
    ("unstable-book", "api"),
]
CRATES = ["std", "alloc", "core", "proc_macro", "test"]
TRANSLATIONS = {"es", "ja", "ko", "zh", "fr", "ru", "de", "pt-br"}
# Vendor intrinsics: thousands of one-line pages that say nothing in prose.
SKIP_MODULES = {"arch", "core_arch", "core_simd", "simd", "std_detect"}
SKIP_FILES = {"print.html", "toc.html", "all.html", "404.html", "SUMMARY.html", "test-summary.html"}
DROP_TAGS = {"script", "style", "svg", "button", "nav", "noscript", "img", "iframe", "rustdoc-toolbar"}
DROP_CLASSES = {
    "rule", "test-arrow", "tooltip", "since", "rightside", "anchor", "doc-anchor", "stab", "src",
    "item-spacer", "hideme", "buttons", "footnote-backref", "railroad-production", "grammar-railroad",
    "boring", "sub-heading", "rustdoc-breadcrumbs", "impl-items-hidden", "footnote-reference", "fr-ref",
    "item-info", "portability", "copy-path", "grammar-container",
}
QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " ",
                        "\u200b": None, "\u2060": None, "\u00ad": None, "\ufeff": None})
BLOCK_TAGS = {"p", "ul", "ol", "pre", "blockquote", "table", "dl", "h1", "h2", "h3", "h4", "h5", "h6",
              "div", "section", "details", "figure", "hr", "main", "article"}


def dropped(el):
    if not isinstance(el.tag, str):
        return True
    if el.tag in DROP_TAGS:
        return True
    cls = el.get("class")
    return bool(cls) and not DROP_CLASSES.isdisjoint(cls.split())


def has_class(el, name):
    return name in (el.get("class") or "").split()


def raw_text(el):
    """Text of a code element, without hidden lines and widgets."""
    out = [el.text or ""]
    for child in el:
        if not dropped(child):
            if has_class(child, "where") and child.tag == "div" and "".join(out)[-1:].strip():
                out.append("\n")
            out.append("\n" if child.tag == "br" else raw_text(child))
            if has_class(child, "code-attribute"):
                out.append("\n")
        out.append(child.tail or "")
    return "".join(out)


def inline(el):
    """Text of a paragraph-like element as Markdown."""
    out = [el.text or ""]
    for child in el:
        if not dropped(child):
            tag = child.tag
            if tag == "code":
                text = re.sub(r"\s+", " ", raw_text(child)).strip()
                out.append(f"`{text}`" if text else "")
            elif tag in ("em", "i", "strong", "b"):
                text, mark = inline(child).strip(), "*" if tag in ("em", "i") else "**"
                out.append(f"{mark}{text}{mark}" if text else "")
            elif tag == "br":
                out.append(" ")
            elif tag == "sup":
                text = inline(child).strip()
                out.append("" if child.find(".//a") is not None else f"^{text}")
            else:
                out.append(inline(child))
        out.append(child.tail or "")
    return "".join(out)


def squeeze(text):
    text = re.sub(r"\s+", " ", text.translate(QUOTES)).strip()
    return re.sub(r"`` +|(?<=\w)`{2}(?=\w)", " ", text) if "``" in text else text


def code_block(pre):
    code = pre.find("code")
    cls = (pre.get("class") or "") + " " + ((code.get("class") or "") if code is not None else "")
    match = re.search(r"language-([\w+-]+)", cls)
    lang = match.group(1) if match else ("rust" if "rust" in cls.split() else "text")
    body = raw_text(pre).translate(QUOTES).replace("\t", "    ")
    lines = [line.rstrip() for line in body.split("\n")]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
    if not body or "`" * 3 in body:
        return None
    return f"```{lang}\n{body}\n```"


def list_block(el, depth=0):
    lines = []
    for n, li in enumerate((c for c in el if c.tag == "li"), 1):
        mark = f"{n}." if el.tag == "ol" else "-"
        pad = " " * (len(mark) + 1)
        parts = [b for _, b in blocks(li, depth + 1)] or [squeeze(inline(li))]
        item = "\n".join(p for p in parts if p)
        if not item:
            continue
        item = item.replace("\n", "\n" + pad)
        lines.append(f"{mark} {item}")
    return "\n".join(lines)


def table_block(el):
    rows = []
    for tr in el.iter("tr"):
        cells = [squeeze(inline(c)) for c in tr if c.tag in ("td", "th")]
        if any(cells):
            rows.append("| " + " | ".join(cells) + " |")
            if len(rows) == 1:
                rows.append("|" + "---|" * len(cells))
    return "\n".join(rows) if len(rows) > 2 else ""


def dl_block(el):
    lines, term = [], ""
    for child in el:
        if dropped(child):
            continue
        if child.tag == "dt":
            term = squeeze(inline(child))
            if child.find(".//a") is not None and "`" not in term and " " not in term:
                term = f"`{term}`"
        elif child.tag == "dd":
            text = squeeze(inline(child))
            if text:
                lines.append(f"- {term}: {text}")
    return "\n".join(lines)


def blocks(el, depth=0):
    """Yields (kind, markdown) for the block structure under `el`."""
    run = [el.text or ""]

    def flush():
        text = squeeze("".join(run))
        run.clear()
        if text:
            yield "p", text

    for child in el:
        if dropped(child):
            run.append(child.tail or "")
            continue
        tag = child.tag
        if tag not in BLOCK_TAGS and not (tag == "a" and child.find("p") is not None):
            holder = lxml_html.Element("span")
            tail, child.tail = child.tail, None
            holder.append(child)
            run.append(inline(holder))
            run.append(tail or "")
            continue
        yield from flush()
        if tag == "p":
            text = squeeze(inline(child))
            if text:
                yield "p", text
        elif tag in ("ul", "ol"):
            text = list_block(child, depth)
            if text:
                yield "list", text
        elif tag == "pre":
            text = code_block(child)
            if text:
                yield "code", text
        elif tag == "table":
            text = table_block(child)
            if text:
                yield "table", text
        elif tag == "dl":
            text = dl_block(child)
            if text:
                yield "list", text
        elif tag == "blockquote":
            inner = "\n\n".join(b for _, b in blocks(child, depth))
            if inner:
                yield "quote", "> " + inner.replace("\n", "\n> ").replace("> \n", ">\n")
        elif re.fullmatch(r"h[1-6]", tag):
            text = squeeze(inline(child)).rstrip("\u00a7 ")
            if text:
                yield "h", "#" * int(tag[1]) + " " + text
        elif tag != "hr":
            yield from blocks(child, depth)
        run.append(child.tail or "")
    yield from flush()


def mdbook_page(tree):
    main = tree.find(".//main")
    return list(blocks(main)) if main is not None else []


SKIP_SECTIONS = {"trait-implementations", "synthetic-implementations", "blanket-implementations",
                 "implementors", "foreign-impls", "aliased-type", "layout"}


def item_header(el):
    text = raw_text(el).translate(QUOTES)
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def rustdoc_page(tree, crate, rel):
    """Title, declaration and description, then each item's signature and description."""
    main = tree.find(".//*[@id='main-content']")
    if main is None:
        return []
    out = []

    def walk(el):
        skip = False
        for child in el:
            if not isinstance(child.tag, str):
                continue
            ident = child.get("id") or ""
            if child.tag == "h2" and has_class(child, "section-header"):
                skip = ident in SKIP_SECTIONS or ident.startswith("deref-methods")
                title = squeeze(raw_text(child)).rstrip("\u00a7 ")
                if not skip and title:
                    out.append(("h", "## " + title))
                continue
            if skip or (dropped(child) and not has_class(child, "rightside")):
                continue
            if has_class(child, "main-heading"):
                h1 = child.find(".//h1")
                title = squeeze(raw_text(h1)).replace("Copy item path", "").strip()
                words = title.split(" ")
                path = [crate] + list(Path(rel).parent.parts)
                if rel != "index.html" and words[0] not in ("Module", "Crate", "Primitive", "Keyword", "Attribute"):
                    words[-1] = "::".join(path + [words[-1]])
                elif words[0] == "Module":
                    words[-1] = "::".join(path)
                title = " ".join(words[:-1] + [f"`{words[-1]}`"])
                out.append(("h", "# " + title))
            elif child.tag == "pre" and has_class(child, "item-decl"):
                text = code_block(child)
                if text and text.count("\n") <= 40:
                    out.append(("decl", text))
            elif has_class(child, "docblock"):
                out.extend(blocks(child))
            elif child.tag == "dl":
                text = dl_block(child)
                if text:
                    out.append(("list", text))
            elif child.tag == "details":
                head = child.find("./summary/h2")
                if head is None or not (head.get("id") or "").startswith("deref-methods"):
                    walk(child)
            elif child.tag == "summary":
                walk(child)
            elif has_class(child, "code-header"):
                text = item_header(child)
                if child.tag == "h4" and text:
                    out.append(("sig", f"```rust\n{text}\n```"))
            elif child.tag == "section" and has_class(child, "variant"):
                name = squeeze(raw_text(child)).strip("\u00a7 ")
                if name:
                    out.append(("sig", f"### `{name}`"))
            elif child.tag == "span" and has_class(child, "structfield"):
                name = squeeze(raw_text(child)).strip("\u00a7 ")
                if name:
                    out.append(("sig", f"- {name}" if name.startswith("`") else f"### `{name}`"))
            elif child.tag in ("div", "section"):
                walk(child)

    walk(main)
    return out


INTS = re.compile(r"\b(?:NonZero)?(?:[iuf](?:8|16|32|64|128|size)|x86_64|x86)\b", re.I)


class Dedup:
    """Remembers blocks. API text is compared after removing digits and integer
    types, since rustdoc repeats the same method for every integer width."""

    def __init__(self):
        self.seen = set()

    def fresh(self, text, loose):
        key = re.sub(r"\s+", " ", text).lower()
        if loose:
            key = re.sub(r"0x[0-9a-f_]+|[\d_]+|[-+]", "0", INTS.sub("int", key))
        digest = hashlib.blake2b(key.encode(), digest_size=12).digest()
        new = digest not in self.seen
        self.seen.add(digest)
        return new


def drop_seen_blocks(items, dedup):
    """Books: a block of some length appears once in the corpus."""
    return [(kind, text) for kind, text in items
            if kind == "h" or len(text) < 48 or dedup.fresh(text, False)]


def drop_seen_units(items, dedup):
    """Library pages: a unit is a signature and its description. It is dropped whole
    when most of it was seen before, and kept whole otherwise."""
    units = [[]]
    for kind, text in items:
        if kind == "sig" or (kind == "h" and text.startswith("## ")):
            units.append([])
        units[-1].append((kind, text))
    out = []
    for unit in units:
        total = new = 0
        for kind, text in unit:
            if kind not in ("h", "sig"):
                total += len(text)
                new += len(text) * dedup.fresh(text, True)
        if new > 0.6 * total:
            out += unit
        else:
            out += [item for item in unit if item[0] == "h" and item[1].startswith(("# ", "## "))]
    return out


def assemble(kept):
    """Drops headings and signatures left without a body."""
    out, follow = [], False
    level_open = 7  # rank of the last heading kept after this point
    for kind, text in reversed(kept):
        if kind == "h":
            level = len(text) - len(text.lstrip("#"))
            if follow or level_open > level and level_open < 7:
                out.append(text)
                level_open, follow = level, False
        elif kind != "sig":
            out.append(text)
            follow = True
        elif follow:
            out.append(text)
            level_open, follow = 6, False
    return "\n\n".join(reversed(out)).strip()


def release_notes(path):
    text = re.sub(r"<a [^>]*></a>\n*", "", path.read_text()).translate(QUOTES)
    text = re.sub(r"^\[[^\]]+\]:.*\n?", "", text, flags=re.M)
    text = re.sub(r"\[((?:[^\[\]]|\[[^\[\]]*\])+)\](?:\([^)\s]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"^(.+)\n=+$", r"# Rust \1", text, flags=re.M)
    text = re.sub(r"^(.+)\n-+$", r"## \1", text, flags=re.M)
    text = re.sub(r"\n{3,}", "\n\n", text)
    for part in re.split(r"\n(?=# Rust Version)", text)[1:]:
        yield re.sub(r"[^\w.]+", "-", part.split("\n")[0][7:]).strip("-"), part.strip()


def pages(root, folder):
    for path in sorted((root / folder).rglob("*.html")):
        rel = path.relative_to(root / folder)
        if path.name in SKIP_FILES or rel.parts[0] in TRANSLATIONS:
            continue
        if rel.parts[0] in ("first-edition", "second-edition", "2018-edition"):
            continue
        raw = path.read_text(encoding="utf-8", errors="replace").replace("<wbr>", "")
        if 'http-equiv="refresh"' in raw[:3000].lower():
            continue
        yield rel, raw


def documents(root):
    dedup = Dedup()
    parser = lxml_html.HTMLParser(encoding="utf-8")
    for folder, group in BOOKS:
        for rel, raw in pages(root, folder):
            tree = lxml_html.document_fromstring(raw.encode(), parser=parser)
            text = assemble(drop_seen_blocks(mdbook_page(tree), dedup))
            yield f"{folder}/{rel}", "api" if rel.name == "CHANGELOG.html" else group, text
    for crate in CRATES:
        listing = [(rel, raw) for rel, raw in pages(root, crate) if not SKIP_MODULES & set(rel.parts)]
        # Module pages first: their long introductions are the prose of the library.
        listing.sort(key=lambda item: (item[0].name != "index.html", str(item[0])))
        for rel, raw in listing:
            if "!." in rel.name:
                continue
            tree = lxml_html.document_fromstring(raw.encode(), parser=parser)
            text = assemble(drop_seen_units(rustdoc_page(tree, crate, str(rel)), dedup))
            prose = rel.name == "index.html" or re.match(r"(keyword|primitive|macro)\.", rel.name)
            yield f"{crate}/{rel}", "std-prose" if prose else "api", text
    if (root / "releases.md").exists():
        for name, text in release_notes(root / "releases.md"):
            yield f"releases/{name}", "api", text


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--html", type=Path, required=True)
    args.add_argument("--out", type=Path, default=Path("build"))
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    splits, stats = {"train": [], "valid": [], "heldout": []}, Counter()
    for path, group, text in documents(args.html):
        if len(text) < 200:
            stats["short"] += 1
            continue
        slot = int.from_bytes(hashlib.blake2b(b"rust-docs-lm/" + path.encode(), digest_size=8).digest(), "little") % 100
        split = {0: "heldout", 1: "valid", 2: "valid"}.get(slot, "train")
        splits[split].append({"path": path, "group": group, "text": text + "\n"})
        stats[f"{split}/{group} docs"] += 1
        stats[f"{split}/{group} bytes"] += len(text.encode())
    for split, docs in splits.items():
        with open(args.out / f"{split}.jsonl", "w", encoding="utf-8") as f:
            for doc in docs:
                f.write(json.dumps(doc, ensure_ascii=False) + "\n")
    # Documents in order, each preceded by the separator token.
    (args.out / "heldout.txt").write_text(
        "".join("<|endoftext|>" + d["text"] for d in splits["heldout"]), encoding="utf-8")
    for key in sorted(stats):
        print(f"{key:28} {stats[key]}")


if __name__ == "__main__":
    main()
