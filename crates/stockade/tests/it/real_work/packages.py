"""What the registries outside have: a wheel, npm packages, a crate, a Go module, a Debian package, an artifact of Maven.

Written below the folder of the first argument, with `pages.json`: what each host has at which path. The hosts are those of the shipped presets, by
preset and rule, in the file `hosts.json` there.
"""

import base64, gzip, hashlib, io, json, os, subprocess, sys, tarfile, zipfile

root = sys.argv[1]
pages = {}
with open(root + "/hosts.json") as file:
    hosts = json.load(file)


def page(place, kind, body):
    name = "files/" + hashlib.sha256(place.encode()).hexdigest()[:16]
    os.makedirs(root + "/files", exist_ok=True)
    with open(f"{root}/{name}", "wb") as file:
        file.write(body if isinstance(body, bytes) else body.encode())
    pages[place] = {"type": kind, "file": name}


def sha256(body):
    return hashlib.sha256(body).hexdigest()


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def tarred(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o644
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


# The Python Package Index (PEP 503 and PEP 691).
wheel = zipped({
    "acme_words.py": "def count(text):\n    return len(text.split())\n",
    "acme_words-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-words\nVersion: 1.0\n",
    "acme_words-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "acme_words-1.0.dist-info/RECORD": "acme_words.py,,\nacme_words-1.0.dist-info/METADATA,,\nacme_words-1.0.dist-info/WHEEL,,\n"
    "acme_words-1.0.dist-info/RECORD,,\n",
})
name = "acme_words-1.0-py3-none-any.whl"
page(hosts["python.files"][0] + "/packages/ab/cd/" + name, "application/octet-stream", wheel)
link = f"https://{hosts['python.files'][0]}/packages/ab/cd/{name}"
page(hosts["python.index"][0] + "/simple/acme-words/", "text/html", f'<!doctype html><a href="{link}#sha256={sha256(wheel)}">{name}</a>')

# The npm registry: a package with a scope, which depends on one without.
registry, mirror = hosts["npm.registry"][0], "mirror.acme.example/npm"


def npm(name, spelled, files, depends):
    about = {"name": name, "version": "1.0.0", "main": "index.js", "dependencies": depends}
    body = tarred({"package/package.json": json.dumps(about), **{"package/" + k: v for k, v in files.items()}})
    path = f"{registry}/{name}/-/{name.split('/')[-1]}-1.0.0.tgz"
    page(path, "application/octet-stream", body)
    sums = {
        "shasum": hashlib.sha1(body).hexdigest(),
        "integrity": "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode(),
        "tarball": "https://" + path,
    }
    document = {"_id": name, "name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**about, "dist": sums}}}
    page(f"{registry}/{spelled}", "application/json", json.dumps(document))


npm("words-of", "words-of", {"index.js": "module.exports = (text) => text.split(/\\s+/);\n"}, {})
npm("@acme/x", "@acme%2fx", {"index.js": "module.exports = (text) => require('words-of')(text).length;\n"}, {"words-of": "^1.0.0"})
# A mirror below a path, as companies have it.
for place in [place for place in pages if place.startswith(registry)]:
    with open(f"{root}/{pages[place]['file']}") as file:
        try:
            text = file.read().replace(registry, mirror)
            page(place.replace(registry, mirror), "application/json", text)
        except UnicodeDecodeError:
            pages[place.replace(registry, mirror)] = pages[place]

# The sparse index of crates, and the crate.
crate = tarred({
    "acme-words-1.0.0/Cargo.toml": '[package]\nname = "acme-words"\nversion = "1.0.0"\nedition = "2021"\n',
    "acme-words-1.0.0/src/lib.rs": "pub fn count(text: &str) -> usize {\n    text.split_whitespace().count()\n}\n",
})
index, static, api = (hosts["rust." + rule][0] for rule in ["index", "downloads", "api"])
page(index + "/config.json", "application/json", json.dumps({"dl": f"https://{static}/crates", "api": f"https://{api}"}))
line = {"name": "acme-words", "vers": "1.0.0", "deps": [], "cksum": sha256(crate), "features": {}, "yanked": False}
page(index + "/ac/me/acme-words", "text/plain", json.dumps(line) + "\n")
page(static + "/crates/acme-words/1.0.0/download", "application/gzip", crate)

# The Go module proxy. With go.sum nobody asks for sums (the sum database signs with a key of its own).
module = "example.com/acme/words"
source = {"go.mod": f"module {module}\n\ngo 1.19\n", "words.go": 'package words\n\nimport "strings"\n\nfunc Count(text string) int { return len(strings.Fields(text)) }\n'}
files = {f"{module}@v1.0.0/{name}": text for name, text in source.items()}
for end, kind, body in [
    ("list", "text/plain", "v1.0.0\n"),
    ("v1.0.0.info", "application/json", '{"Version":"v1.0.0","Time":"2024-01-01T00:00:00Z"}'),
    ("v1.0.0.mod", "text/plain", source["go.mod"]),
    ("v1.0.0.zip", "application/zip", zipped(files)),
]:
    page(f"{hosts['go.proxy'][0]}/{module}/@v/{end}", kind, body)


def go_sum(files):
    lines = "".join(f"{sha256(text.encode())}  {name}\n" for name, text in sorted(files.items()))
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


with open(root + "/go.sum", "w") as file:
    file.write(f"{module} v1.0.0 {go_sum(files)}\n{module} v1.0.0/go.mod {go_sum({'go.mod': source['go.mod']})}\n")

# The archive of Debian, in the clear.
tree = root + "/deb"
for folder in ["DEBIAN", "usr/share/acme"]:
    os.makedirs(f"{tree}/{folder}")
with open(tree + "/DEBIAN/control", "w") as file:
    file.write("Package: acme-words\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@acme.example>\nDescription: words\n")
with open(tree + "/usr/share/acme/words", "w") as file:
    file.write("words of acme\n")
subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, root + "/acme.deb"], check=True, stdout=subprocess.DEVNULL)
with open(root + "/acme.deb", "rb") as file:
    deb = file.read()
pool = "pool/main/a/acme-words/acme-words_1.0_all.deb"
archive = hosts["debian.packages"][0] + "/debian/"
page(archive + pool, "application/octet-stream", deb)
with open(tree + "/DEBIAN/control") as file:
    packages = f"{file.read()}Filename: {pool}\nSize: {len(deb)}\nSHA256: {sha256(deb)}\n\n".encode()
index = gzip.compress(packages, mtime=0)
page(archive + "dists/stable/main/binary-all/Packages.gz", "application/gzip", index)
page(archive + "dists/stable/main/binary-amd64/Packages.gz", "application/gzip", index)
release = "Origin: Debian\nSuite: stable\nCodename: stable\nArchitectures: all amd64\nComponents: main\nDate: Mon, 01 Jan 2024 00:00:00 UTC\nSHA256:\n"
for arch in ["all", "amd64"]:
    for name, body in [("Packages.gz", index), ("Packages", packages)]:
        release += f" {sha256(body)} {len(body)} main/binary-{arch}/{name}\n"
page(archive + "dists/stable/Release", "text/plain", release)

# Maven Central, a forge's archives, and a page.
page(hosts["maven.central"][0] + "/maven2/com/acme/words/1.0/words-1.0.pom", "text/xml", "<project><artifactId>words</artifactId></project>")
page(hosts["github.archives"][0] + "/acme/words/tar.gz/refs/tags/v1", "application/gzip", tarred({"words-1/README": "words of acme\n"}))
forge, objects = hosts["github.releases"][:2]
pages[forge + "/acme/words/releases/download/v1/words.txt"] = {"to": f"https://{objects}/words.txt"}
page(objects + "/words.txt", "text/plain", "words of a release\n")
pages[forge + "/acme/words/away"] = {"to": "https://elsewhere.example/secret"}
page("elsewhere.example/secret", "text/plain", "nobody is to read this\n")
page("elsewhere.example/", "text/plain", "nobody is to read this\n")

with open(root + "/pages.json", "w") as file:
    json.dump(pages, file)
