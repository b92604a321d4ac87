#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
What comments cite is there: files of this repository, headings of its description of the protocol and
sections of the manual page of the format. So everything that a comment relies on can be looked up.

The forms are "fuse-unionfs-format(5), LOOKUP" and "src/transport/README.md, Notifications"; several sections
are separated by a comma, "and" or "to".
"""
import ast
import io
import pathlib
import re
import sys
import tokenize

PAGE = 'man/fuse-unionfs-format.5'
PROTOCOL = 'src/transport/README.md'
ROOMS = ('src', 'include', 'tests', 'contrib')
TOP = ('meson.build', 'meson_options.txt')

# A name in a comment that is a file's, as far as that can be told.
FILE = re.compile(r'(?<![\w./~$*<{-])((?:[\w+-]+/)*[\w+-]+(?:\.[\w+-]+)*\.(?:md|py|c|h))(?![\w/*>}-])')
# Of the kernel, and headers of the system.
ELSEWHERE = re.compile(r'fs/[\w/-]+\.[ch]$|(include/)?(linux|sys)/[\w-]+\.h$')
# Notes that comments used to cite, by number, and that are not here.
NOTES = re.compile(r'(?<![\w-])(overlay-format|zero-message|fuse-kernel-features)(?![\w-])')


def c_comments(text):
    """(line, text) of each; strings are stepped over."""
    token = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', re.S)
    for m in token.finditer(text):
        if m[0].startswith('/'):
            yield text.count('\n', 0, m.start()) + 1, re.sub(r'\n\s*\*', '\n', m[0])


def python_comments(text):
    """Comments and docstrings; comments of lines that follow each other are one."""
    block, last = [], 0
    for t in tokenize.generate_tokens(io.StringIO(text).readline):
        if t.type != tokenize.COMMENT:
            continue
        if block and t.start[0] != last + 1:
            yield last - len(block) + 1, '\n'.join(block)
            block = []
        block.append(t.string.lstrip('#'))
        last = t.start[0]
    if block:
        yield last - len(block) + 1, '\n'.join(block)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            yield node.body[0].lineno, node.body[0].value.value


def hash_comments(text):
    """Of the shell and of meson: lines that begin with a hash, those that follow each other as one."""
    for m in re.finditer(r'(?:^[ \t]*#[^\n]*(?:\n|\Z))+', text, re.M):
        yield text.count('\n', 0, m.start()) + 1, re.sub(r'^[ \t]*#', '', m[0], flags=re.M)


def comments(path, text):
    if path.suffix in ('.c', '.h'):
        return c_comments(text)
    if path.suffix == '.py' or re.match(r'#!.*python', text):
        return python_comments(text)
    if path.suffix == '.md':
        return [(1, text)]
    return hash_comments(text)


def not_named(text, what, sections):
    """Of the citations of @what in @text those that name none of @sections."""
    ends = '|'.join(re.escape(s) for s in sorted(sections, key=len, reverse=True))
    one = re.compile(r'(?:%s)(?=[).,;:"]| and | to |$)' % ends)
    for m in re.finditer(re.escape(what) + r',\s', text):
        at, first = m.end(), True
        while True:
            found = one.match(text, at)
            if not found:
                # Behind the first one, what is in capital letters must be one more.
                if first or re.match(r'[A-Z-]{4,}', text[at:]):
                    yield text[at:at + 30]
                break
            more = re.compile(r'(?:,| and| to) ').match(text, found.end())
            if not more:
                break
            at, first = more.end(), False


def files(root):
    for room in (*ROOMS, 'man'):
        yield from (f for f in sorted((root / room).rglob('*'))
                    if f.is_file() and '__pycache__' not in f.parts)
    yield from (f for f in sorted(root.glob('*')) if f.is_file())


def map_of_sources(root):
    """src/README.md says "`FILE` (function, function)": are they there, as words at least?"""
    bad, n = [], 0
    text = (root / 'src/README.md').read_text()
    for m in re.finditer(r'`((?!include/)[\w/-]+\.[ch])`\s+\(([a-z_][\w]*(?:,\s+[a-z_]\w*)*)\)', text):
        line = text[:m.start()].count('\n') + 1
        place = next((root / d / m[1] for d in ('src', 'include', '') if (root / d / m[1]).is_file()), None)
        if not place:
            bad.append('src/README.md:%d: %s is not in the repository' % (line, m[1]))
            continue
        code = place.read_text()
        for name in re.split(r',\s+', m[2]):
            n += 1
            if not re.search(r'\b%s\b' % name, code):
                bad.append('src/README.md:%d: %s is not in %s' % (line, name, m[1]))
    if n < 100:
        bad.append('src/README.md names %d functions only: is this test looking in the right place?' % n)
    return bad


def check(root):
    sections = {
        'fuse-unionfs-format(5)': re.findall(r'^\.SH (.*)$', (root / PAGE).read_text(), re.M),
        PROTOCOL: re.findall(r'^## (.*)$', (root / PROTOCOL).read_text(), re.M),
    }
    there = [f.relative_to(root).as_posix() for f in files(root)]
    known = set()
    for f in there:
        parts = f.split('/')
        known.update('/'.join(parts[i:]) for i in range(len(parts)))
    bad, cited = [], 0
    for f in there:
        if f.split('/')[0] not in ROOMS and f not in TOP and not f.endswith('.md'):
            continue
        try:
            text = (root / f).read_text()
        except UnicodeDecodeError:
            continue
        for line, comment in comments(root / f, text):
            flat = ' '.join(comment.split())
            for what, names in sections.items():
                cited += flat.count(what + ', ')
                for wrong in not_named(flat, what, names):
                    bad.append('%s:%d: %s has no section "%s..."' % (f, line, what, wrong))
            bad.extend('%s:%d: %s is not in the repository' % (f, line, name) for name in NOTES.findall(flat))
            for name in FILE.findall(flat):
                if name not in known and not ELSEWHERE.match(name):
                    bad.append('%s:%d: %s is not in the repository' % (f, line, name))
    bad += map_of_sources(root)
    if not cited:
        bad.append('no comment cites anything: is this test looking in the right place?')
    return bad, cited


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[1])
    bad, cited = check(root)
    print('\n'.join(bad) or 'citations: %d, all in order' % cited)
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
