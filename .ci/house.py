"""The rules of the house (crates/ARCHITECTURE.md) that are about source text. `.ci/layers` runs it; argument: the root."""

import re
import statistics
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
SQLITE = "crates/adapters/src/sqlite/"
LINES_MAX = 400
LINES_MEDIAN_MAX = 150
# The table of contents of promises may be as long as it has to.
LONG = {"crates/domain/src/contract/mod.rs"}

failures = []


def fail(where, message):
    failures.append(f"layers: {where}: {message}")


def sources(pattern="crates/*/src/**/*.rs"):
    """Files with their text, without comments' and tests' say in what the code does."""
    for path in sorted(ROOT.glob(pattern)):
        if "target" not in path.parts:
            yield path.relative_to(ROOT).as_posix(), path.read_text()


def code_of(text):
    """The text with comments and `#[cfg(test)] mod` blocks blanked, line numbers kept."""
    kept, in_test = [], False
    lines = text.split("\n")
    for n, line in enumerate(lines):
        if line.startswith("#[cfg(test)]") and n + 1 < len(lines) and lines[n + 1].startswith("mod "):
            in_test = not lines[n + 1].rstrip().endswith(";")
        kept.append("" if in_test or line.lstrip().startswith("//") else line)
        if in_test and line == "}":
            in_test = False
    # A quotation mark by itself would begin a text.
    return "\n".join(kept).replace("'\"'", "' '")


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def only(allowed, pattern, what):
    """Nothing but the allowed files names it."""
    for path, text in sources():
        if not any(path.startswith(prefix) for prefix in allowed):
            for found in re.finditer(pattern, code_of(text)):
                fail(f"{path}:{line_of(text, found.start())}", f"names {what}; only {', '.join(allowed)} may")


def ring():
    only(["crates/adapters/src/digest.rs"], r"(?<![\w:])ring::", "ring")


def databases():
    only([SQLITE], r"\b(rusqlite|r2d2|refinery)::", "SQLite's packages")
    for path, text in sources("crates/adapters/src/**/*.rs"):
        folder = path.removeprefix("crates/adapters/src/").split("/")[0]
        for found in re.finditer(r"crate::(signature|sqlite)\b", code_of(text)):
            if found[1] != folder:
                fail(f"{path}:{line_of(text, found.start())}", "adapters must not import each other")


def composition():
    commands = "backup check delete export migrate restore version mod".split()
    allowed = ["compose.rs", *(f"commands/{name}.rs" for name in commands), "commands/selftest/audit.rs"]
    allowed = [f"crates/api/src/{name}" for name in allowed]
    for path, text in sources("crates/api/src/**/*.rs"):
        if path not in allowed:
            for found in re.finditer(r"\badapters::sqlite\b|\bSqliteStore\b", code_of(text)):
                where = f"{path}:{line_of(text, found.start())}"
                fail(where, "names SQLite; take a port, or do it in compose.rs")


def tables():
    """The tables that the migrations create and do not drop, but for those that another one renames."""
    names = set()
    for path in sorted((ROOT / "migrations/sqlite").glob("*.sql")):
        text = path.read_text()
        names |= set(re.findall(r"CREATE TABLE (\w+)", text))
        names -= set(re.findall(r"DROP TABLE (\w+)", text))
        for old, new in re.findall(r"ALTER TABLE (\w+) RENAME TO (\w+)", text):
            names = names - {old} | {new}
    return names


def sql():
    """SQL on a table stands only in tables/, and writes to it in one file of these; upkeep/check is an independent witness."""
    names = "|".join(sorted(tables()))
    used = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE)\s+(?:main\.)?({names})\b")
    written = re.compile(rf"\b(?:INTO|UPDATE|DELETE FROM)\s+({names})\b")
    writers = {}
    for path, text in sources("crates/adapters/src/**/*.rs"):
        if path.startswith(SQLITE + "upkeep/check/"):
            continue
        code = code_of(text)
        for literal in re.finditer(r'"(?:[^"\\]|\\.)*"', code, re.S):
            where = f"{path}:{line_of(text, literal.start())}"
            for table in used.findall(literal[0]):
                # The text index has its file, and joins what it finds with the messages.
                if not path.startswith(SQLITE + "tables/") and path != SQLITE + "search/file.rs":
                    fail(where, f"SQL on {table} belongs in {SQLITE}tables/")
            for table in written.findall(literal[0]):
                writers.setdefault(table, set()).add(path)
    for table, paths in writers.items():
        if len(paths) > 1:
            fail(", ".join(sorted(paths)), f"all write to {table}; one file of {SQLITE}tables/ should")


def module_of(path):
    parts = path.removesuffix(".rs").split("/src/")[1].split("/")
    return tuple(parts[:-1] if parts[-1] in ("mod", "lib", "main") else parts)


def imports_of(crate):
    """What each file of a crate imports from it: `use` lines and paths that begin with crate:: or super::."""
    files = {module_of(path): (path, code_of(text)) for path, text in sources(f"crates/{crate}/src/**/*.rs")}
    imports = {}
    for module, (path, code) in files.items():
        imports[module] = set()
        flat = re.sub(r"\b(?:pub(?:\([^)]*\))? )?mod \w+;", "", code)
        flat = re.sub(r"(?m)^\s*pub use [^;]*;", "", flat) if path.endswith(("mod.rs", "lib.rs")) else flat
        # `use a::{b, c::d}` names a::b and a::c.
        flat = re.sub(
            r"((?:\w+::)+)\{([^{}]*)\}",
            lambda m: " ".join(m[1] + part.strip() for part in m[2].split(",")),
            flat,
        )
        for found in re.finditer(r"(?<![\w:])((?:crate|super|self)(?:::\w+)+)", flat):
            parts = found[1].split("::")
            if parts[0] == "self":
                continue
            # `super` of a file is its folder.
            target = () if parts[0] == "crate" else module[:-1]
            rest = parts[1:]
            while rest and rest[0] == "super":
                target, rest = target[:-1], rest[1:]
            target = target + tuple(rest)
            while target and target not in files:
                target = target[:-1]
            # An item of the folder itself, or of the crate's root, is no step to another module.
            if target and target != module:
                imports[module].add(target)
    return imports


def folder_of(module):
    """`sqlite` is an adapter with folders of its own; elsewhere the folders are those of src."""
    return module[: 2 if module[:1] == ("sqlite",) else 1]


def circles(crate):
    """No circle among the files of a crate, and none among its folders."""
    files = imports_of(crate)
    folders = {}
    for module, targets in files.items():
        others = {folder_of(target) for target in targets} - {folder_of(module)}
        folders.setdefault(folder_of(module), set()).update(others)
    for graph in (files, folders):
        find_circle(crate, graph)


def find_circle(crate, imports):
    done, path = set(), []

    def visit(module):
        if module in path:
            circle = path[path.index(module) :] + [module]
            fail(f"crates/{crate}/src", "circle of imports: " + " -> ".join("::".join(m) for m in circle))
            return
        if module not in done:
            path.append(module)
            for target in sorted(imports.get(module, ())):
                visit(target)
            path.pop()
            done.add(module)

    for module in sorted(imports):
        visit(module)


def words():
    """No doc comment begins with one of the five."""
    for path, text in sources("crates/**/*.rs"):
        before = ""
        for n, line in enumerate(text.split("\n"), 1):
            found = re.match(r"\s*//[/!] (What|Who|How|Whether|These)\b", line)
            if found and not re.match(r"\s*//[/!]", before):
                fail(f"{path}:{n}", f"begins with {found[1]}; say what the thing is or does")
            before = line


def lengths():
    counts = {path: text.count("\n") for path, text in sources("crates/**/*.rs")}
    for path, n in counts.items():
        if n > LINES_MAX and path not in LONG:
            fail(path, f"has {n} lines; {LINES_MAX} are the most: split it by what its parts are about")
    median = statistics.median(counts.values())
    if median > LINES_MEDIAN_MAX:
        fail("crates", f"half of the files have more than {median} lines; {LINES_MEDIAN_MAX} are the most")


for rule in (ring, databases, composition, sql, words, lengths):
    rule()
for crate in sorted(path.name for path in (ROOT / "crates").iterdir() if path.is_dir()):
    circles(crate)
print("\n".join(failures), file=sys.stderr) if failures else None
sys.exit(bool(failures))
