# SPDX-License-Identifier: GPL-2.0-or-later
"""Hard links of a lower: steps through their names, what is seen, and what should be without an index."""
import os
import random

from . import kernel as k
from . import tree

NAMES = ('a/x', 'b/y', 'c')
GROUP = 'f a/x 0123456789; h b/y a/x; h c a/x; f a/z other; d d'


def look(d):
    """Names, contents, modes, link counts, and which names are one inode."""
    first, out = {}, []
    for rel in tree.walk(d):
        st = os.lstat(os.path.join(d, rel))
        if st.st_mode & 0o170000 != 0o100000:
            continue
        key = first.setdefault((st.st_dev, st.st_ino), rel)
        out.append((rel, tree.text(os.path.join(d, rel)), '%o' % (st.st_mode & 0o7777), st.st_nlink, key))
    return out


def append(d, a, tag):
    tree.append(d + '/' + a, tag)


def overwrite(d, a, tag):
    tree.write(d + '/' + a, tag)


def patch(d, a, tag):
    tree.write(d + '/' + a, tag, os.O_RDWR)


def shorten(d, a, _):
    os.truncate(d + '/' + a, 3)


def empty(d, a, _):
    os.truncate(d + '/' + a, 0)


def chmod(d, a, tag):
    os.chmod(d + '/' + a, 0o600 + ord(tag[0]) % 8)


def utime(d, a, _):
    os.utime(d + '/' + a, ns=(5, 6))


def setxattr(d, a, tag):
    os.setxattr(d + '/' + a, 'user.k', tag.encode())


def unlink(d, a, _):
    os.unlink(d + '/' + a)


def link(d, a, tag):
    os.link(d + '/' + a, d + '/d/' + tag)


def rename(d, a, tag):
    os.rename(d + '/' + a, d + '/d/' + tag)


def rename_here(d, a, tag):
    os.rename(d + '/' + a, d + '/' + os.path.dirname(a) + '/' + tag)


def replace(d, a, tag):
    tree.write(d + '/tmp', tag)
    os.rename(d + '/tmp', d + '/' + a)


def over_other(d, a, _):
    if tree.exists(d + '/a/z') and a != 'a/z':
        os.rename(d + '/' + a, d + '/a/z')


def swap(d, a, _):
    if tree.exists(d + '/a/z') and a != 'a/z':
        k.rename2(d + '/' + a, d + '/a/z', k.RENAME_EXCHANGE)


STEPS = (append, overwrite, patch, shorten, empty, chmod, utime, setxattr, unlink, link, rename,
         rename_here, replace, over_other, swap)


def plan(seed, length):
    """Steps through names that the plain tree has at that time, picked by number."""
    r = random.Random(seed)
    return [(r.choice(STEPS), r.randrange(100), '%c%d' % (97 + i, seed)) for i in range(length)]


def run_step(d, step, names):
    fn, pick, tag = step
    if names:
        fn(d, names[pick % len(names)], tag)


def regular(d):
    return sorted(rel for rel in tree.walk(d) if not os.path.isdir(os.path.join(d, rel)))


class Split:
    """What is seen without an index: a change makes a file of the name's own of a lower one."""

    def __init__(self, lower):
        self.lower_links = {}
        self.names = {}
        known = {}
        for rel, content, mode, links, key in look(lower):
            f = known.setdefault(key, {'content': content, 'mode': mode, 'lower': links})
            self.names[rel] = f

    def own(self, a):
        f = self.names[a]
        if f['lower']:
            f = self.names[a] = dict(f, lower=0)
        return f

    def step(self, fn, a, tag):
        getattr(self, fn.__name__, self.attributes)(a, tag)

    def attributes(self, a, _):
        self.own(a)

    def append(self, a, tag):
        self.own(a)['content'] += tag

    def overwrite(self, a, tag):
        self.own(a)['content'] = tag

    def patch(self, a, tag):
        f = self.own(a)
        f['content'] = tag + f['content'][len(tag):]

    def shorten(self, a, _):
        f = self.own(a)
        f['content'] = (f['content'] + '\0\0\0')[:3]

    def empty(self, a, _):
        self.own(a)['content'] = ''

    def chmod(self, a, tag):
        self.own(a)['mode'] = '%o' % (0o600 + ord(tag[0]) % 8)

    def unlink(self, a, _):
        del self.names[a]

    def link(self, a, tag):
        self.names['d/' + tag] = self.own(a)

    def rename(self, a, tag):
        self.own(a)
        self.names['d/' + tag] = self.names.pop(a)

    def rename_here(self, a, tag):
        self.own(a)
        self.names[os.path.join(os.path.dirname(a), tag)] = self.names.pop(a)

    def replace(self, a, tag):
        self.names[a] = {'content': tag, 'mode': '644', 'lower': 0}

    def over_other(self, a, _):
        if 'a/z' in self.names and a != 'a/z' and self.names[a] is not self.names['a/z']:
            self.own(a)
            self.names['a/z'] = self.names.pop(a)

    def swap(self, a, _):
        if 'a/z' in self.names and a != 'a/z' and self.names[a] is not self.names['a/z']:
            self.own(a)
            self.own('a/z')
            n = self.names
            n[a], n['a/z'] = n['a/z'], n[a]

    def look(self):
        out, first = [], {}
        for rel in sorted(self.names):
            f = self.names[rel]
            key = first.setdefault(id(f), rel)
            links = f['lower'] or sum(1 for g in self.names.values() if g is f)
            out.append((rel, f['content'], f['mode'], links, key))
        return out
