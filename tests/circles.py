#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
No circles: where one .c file needs another (a function or data of it), that one must not need the first,
be it by way of others. So each file can be read and tested after those below it.

What is needed is taken from the objects that were built, with nm(1): it sees what is called by way of
tables and macros, too. Usage: circles.py SOURCE_ROOT BUILD_ROOT
"""
import collections
import json
import pathlib
import subprocess
import sys

SKIP = 77

# The only circles there may be, each with the reason: (frozenset of files, why).
ALLOWED = []

Skip = type('Skip', (Exception,), {})


def objects(root, build):
    """{object: source} of src/, but for those that were compiled once more for a test."""
    found = {}
    for command in json.loads((build / 'compile_commands.json').read_text()):
        source = pathlib.Path(command['directory'], command['file']).resolve()
        out = pathlib.Path(command['output'])
        if out.parts[0] != 'tests' and source.is_relative_to(root / 'src'):
            found[out] = str(source.relative_to(root))
    return found


def symbols(build, objs):
    """(defined, needed): {symbol: object}, {object: symbols}."""
    for obj in objs:
        if not (build / obj).exists():
            raise Skip('%s has not been built' % obj)
        with open(build / obj, 'rb') as f:
            if f.read(4) != b'\x7fELF':
                raise Skip('%s is no ELF object (LTO?)' % obj)
    out = subprocess.run(['nm', '-A', '-P', '-g', *map(str, objs)], cwd=build, check=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    defined, needed = {}, collections.defaultdict(set)
    for line in out.splitlines():
        obj, rest = line.split(': ', 1)
        name, kind = rest.split()[:2]
        if name.startswith('__gnu_lto_'):
            raise Skip('objects of LTO have no symbols yet')
        if kind in 'Uwv':
            needed[pathlib.Path(obj)].add(name)
        else:
            defined[name] = pathlib.Path(obj)
    return defined, needed


def graph(root, build):
    """{(user, used): symbols}, by source file."""
    source = objects(root, build)
    if not source:
        raise Skip('nothing of src/ in compile_commands.json')
    defined, needed = symbols(build, sorted(source))
    edges = collections.defaultdict(set)
    for obj, names in needed.items():
        for name in names:
            if name in defined and defined[name] != obj:
                edges[source[obj], source[defined[name]]].add(name)
    return edges


def components(edges):
    """The strongly connected ones of more than one file: who is reached from whom he reaches."""
    below = collections.defaultdict(set)
    for user, used in edges:
        below[user].add(used)

    def reach(start):
        seen, todo = set(), [start]
        while todo:
            for used in below[todo.pop()] - seen:
                seen.add(used)
                todo.append(used)
        return seen

    reached = {f: reach(f) for f in sorted({f for edge in edges for f in edge})}
    found = {frozenset(g for g in reached if g in reached[f] and f in reached[g]) for f in reached}
    return sorted((c for c in found if len(c) > 1), key=sorted)


def check(root, build):
    edges = graph(root, build)
    circles, bad = components(edges), []
    allowed = {files for files, why in ALLOWED}
    for circle in circles:
        if circle in allowed:
            continue
        bad.append('a circle of %d files: %s' % (len(circle), ', '.join(sorted(circle))))
        bad += ['    %s -> %s: %s' % (user, used, ', '.join(sorted(edges[user, used])))
                for user, used in sorted(edges) if user in circle and used in circle]
    bad += ['no circle any more: %s; take it out of ALLOWED' % ', '.join(sorted(files))
            for files in allowed - set(circles)]
    return bad


def main():
    root, build = (pathlib.Path(a).resolve() for a in sys.argv[1:3])
    try:
        bad = check(root, build)
    except Skip as why:
        print('circles: skipped:', why)
        return SKIP
    print('\n'.join(bad) or 'circles: none')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
