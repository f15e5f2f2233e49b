"""Checks the project's Markdown: every relative link leads somewhere, every script and path that a page names in code
exists, and every suite of `tests/run.sh` is in the README."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
SCRIPT = re.compile(r"(?:^|[\s`(])((?:\./)?(?:examples|tests|\.ci|filter|shared|controlplane|charts)/[\w./-]+|\./[\w.-]+\.sh)")


def pages():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True,
                            text=True, check=True).stdout.split()
    return [ROOT / name for name in listed]


def problems(page):
    text = page.read_text()
    for target in LINK.findall(text):
        if "://" not in target and not (page.parent / target).exists():
            yield f"link to {target} leads nowhere"
    for name in SCRIPT.findall(text):
        path = name.rstrip(".,;:")
        if not (ROOT / path).exists() and not (page.parent / path).exists():
            yield f"names {path}, which does not exist"


def main():
    found = [f"{page.relative_to(ROOT)}: {problem}" for page in pages() for problem in problems(page)]
    readme = (ROOT / "README.md").read_text()
    for suite in subprocess.run([ROOT / "tests/run.sh", "--list"], capture_output=True, text=True).stdout.split():
        if f"`{suite}`" not in readme:
            found.append(f"README.md: the suite `{suite}` is not described")
    for problem in found:
        print(problem)
    print(f"{len(pages())} pages, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
