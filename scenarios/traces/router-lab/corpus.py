#!/usr/bin/env python3
"""Makes the corpus: four domains of freely licensed text out of Debian packages, as token ids.

    python3 corpus.py --out build/router-lab

fetches the packages with `apt-get download` (nothing is installed), takes the text out of them,
trains a byte-level BPE of 4,096 tokens and writes into --out

    tokenizer.json
    {train,held}-DOMAIN.npy         uint16 token ids, documents end with token 0
    {train,held}-DOMAIN-begin.npy   int64, where each document begins
    corpus.csv                      packages, versions, documents, bytes and tokens

One document in sixteen, drawn by the hash of its name, is held out whole; nothing of it is seen in
training, of the tokenizer neither. Needs numpy and tokenizers.
"""
import argparse
import csv
import gzip
import hashlib
import html.parser
import io
import pathlib
import subprocess
import tarfile

import numpy as np

PACKAGES = {
    "prose": ("bible-kjv-text", "anarchism", "debian-handbook", "jargon-text"),
    "code": ("libpython3.11-stdlib", "glibc-source"),
    "manual": ("manpages", "manpages-dev"),
    "german": ("manpages-de", "manpages-de-dev"),
}
TOOLS = ("bible-kjv",)  # the program that unpacks bible-kjv-text
VOCABULARY = 4096
DOCUMENT_BYTES_MIN = 1500   # shorter manual pages are links to others
DOMAIN_BYTES_MAX = 16 << 20
HELD_OUT_ONE_IN = 16


class TextOfHtml(html.parser.HTMLParser):
    BLOCKS = {"p", "div", "h1", "h2", "h3", "h4", "li", "br", "tr", "pre", "blockquote"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("script", "style", "head")
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style", "head")

    def handle_data(self, data):
        if not self.hidden:
            self.parts.append(data)

    @classmethod
    def of(cls, text):
        parser = cls()
        parser.feed(text)
        lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
        return "\n".join(line for line in lines if line)


def decode(data):
    for encoding in ("utf-8", "latin-1"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 decodes every byte")


def fetch(work):
    """Unpacks every package below work/PACKAGE; returns {package: version}."""
    debs = work / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    names = [name for group in PACKAGES.values() for name in group] + list(TOOLS)
    missing = [name for name in names if not list(debs.glob(f"{name}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "-qq", "download", *missing], cwd=debs, check=True)
    versions = {}
    for name in names:
        deb = sorted(debs.glob(f"{name}_*.deb"))[-1]
        versions[name] = subprocess.run(["dpkg-deb", "-f", deb, "Version"], check=True,
                                        capture_output=True, text=True).stdout.strip()
        if not (work / name).is_dir():
            subprocess.run(["dpkg-deb", "-x", deb, work / name], check=True)
    return versions


def bible(work):
    """A book a document; the program looks for its text where it is started."""
    verses = subprocess.run([next((work / "bible-kjv").rglob("bin/bible")).resolve(), "-f", "-l",
                             "10000", "gen1:1-rev22:21"], stdin=subprocess.DEVNULL, check=True,
                            cwd=work / "bible-kjv-text/usr/lib", capture_output=True, text=True)
    books = {}
    for line in verses.stdout.split("\n"):
        place, _, verse = line.partition(" ")
        book = place.split(":")[0].rstrip("0123456789")
        if verse:
            books.setdefault(book, []).append(verse)
    for book, lines in books.items():
        yield f"bible-kjv-text/{book}", "\n".join(lines)


def prose(work):
    yield from bible(work)
    pages = sorted((work / "anarchism").rglob("*.html"))
    pages += sorted((work / "debian-handbook").rglob("html/en-US/*.html"))
    for page in pages:
        yield str(page.relative_to(work)), TextOfHtml.of(decode(page.read_bytes()))
    jargon = next((work / "jargon-text").rglob("jargon.txt.gz"))
    yield str(jargon.relative_to(work)), decode(gzip.decompress(jargon.read_bytes()))


def code(work):
    """Python and C in turn, so that a cut at DOMAIN_BYTES_MAX leaves both."""
    python = [(str(path.relative_to(work)), decode(path.read_bytes()))
              for path in sorted((work / "libpython3.11-stdlib").rglob("*.py")) if path.is_file()]
    archive = next((work / "glibc-source").rglob("glibc-*.tar.xz"))
    c_code = []
    with tarfile.open(archive) as tar:
        for member in tar:
            source = member.isfile() and member.name.endswith((".c", ".h"))
            if source and "/sysdeps/" not in member.name:
                c_code.append((member.name, decode(tar.extractfile(member).read())))
    for group in (python, sorted(c_code)):
        yield from within(group, DOMAIN_BYTES_MAX // 2)


def roff(packages):
    def read(work):
        for package in packages:
            for page in sorted((work / package).rglob("usr/share/man/**/*.gz")):
                if page.is_file() and not page.is_symlink():
                    yield (str(page.relative_to(work)), decode(gzip.decompress(page.read_bytes())))
    return read


READERS = {"prose": prose, "code": code, "manual": roff(PACKAGES["manual"]),
           "german": roff(PACKAGES["german"])}


def hashed(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def within(documents, bytes_max):
    """Documents in the order of their hashes, each text once, up to bytes_max."""
    seen, total = set(), 0
    for name, text in sorted(documents, key=lambda document: hashed(document[0])):
        size = len(text.encode())
        if size >= DOCUMENT_BYTES_MIN and text not in seen and total + size <= bytes_max:
            seen.add(text)
            total += size
            yield name, text


def held_out(name):
    return hashed("held out " + name) % HELD_OUT_ONE_IN == 0


def train_tokenizer(texts, path):
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<end>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path))
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    work = out / "packages"
    work.mkdir(parents=True, exist_ok=True)
    versions = fetch(work)
    corpus = {domain: list(within(READERS[domain](work), DOMAIN_BYTES_MAX)) for domain in READERS}
    # Equal shares for the tokenizer, as in training: a domain's first four megabytes.
    sample = [text for documents in corpus.values()
              for name, text in within(documents, 4 << 20) if not held_out(name)]
    tokenizer = train_tokenizer(sample, out / "tokenizer.json")
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["domain", "packages", "part", "documents", "bytes", "tokens"])
    for domain, documents in corpus.items():
        for part in ("train", "held"):
            chosen = [text for name, text in documents if held_out(name) == (part == "held")]
            ids = [np.array(encoding.ids + [0], np.uint16)
                   for encoding in tokenizer.encode_batch(chosen)]
            begin = np.cumsum([0] + [len(document) for document in ids], dtype=np.int64)[:-1]
            np.save(out / f"{part}-{domain}.npy", np.concatenate(ids))
            np.save(out / f"{part}-{domain}-begin.npy", begin)
            packages = " ".join(f"{name}={versions[name]}" for name in PACKAGES[domain])
            rows.writerow([domain, packages, part, len(chosen),
                           sum(len(text.encode()) for text in chosen), sum(map(len, ids))])
    (out / "corpus.csv").write_text(table.getvalue())
    print(table.getvalue(), end="")


if __name__ == "__main__":
    main()
