# SPDX-License-Identifier: GPL-2.0-or-later
"""
Layers that are changed while they are mounted: what is warmed before, and how to look afterwards.

    LIVE_OPTIONS    mount options for these tests, e.g. timeout=0
    LIVE_KERNEL     `fresh`: the kernel's overlayfs instead of ours, mounted again for every look; `warm`: not
                    mounted again. The first shows that a test asks for what the layers hold; with the second the
                    kernel's cached names stay as they were.
"""
import errno
import mmap
import os
import re
import signal
import stat
import subprocess
import time

from . import kernel as k
from . import tree
from .registry import Fail, Skip, test

OPTIONS = tuple(o for o in os.environ.get('LIVE_OPTIONS', '').split(',') if o)
KERNEL = os.environ.get('LIVE_KERNEL', '')
TYPES = {stat.S_IFREG: 'file', stat.S_IFDIR: 'dir', stat.S_IFLNK: 'link', stat.S_IFIFO: 'fifo', stat.S_IFCHR: 'char'}
GONE = ('ENOENT', 'ESTALE')     # what may be said of a directory that is no more

_has_sync = None


def sync(u):
    """All changes made so far are visible; False if this program has no such command."""
    global _has_sync
    if KERNEL or _has_sync is False:
        return False
    p = subprocess.run([u.t.binary, 'ctl', u.mnt, 'sync'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    if p.returncode and _has_sync is None and re.search('unexpected argument', p.stdout):
        _has_sync = False
    elif p.returncode:
        raise Fail('ctl %s sync: exit status %d: %s' % (u.mnt, p.returncode, p.stdout))
    else:
        _has_sync = True
    return _has_sync


def settle(u):
    """For a single look afterwards: sync, or the time it takes where there is none."""
    if not sync(u):
        time.sleep(0.1 * u.t.slow)


def result(fn, *args):
    """What it returns, or the name of its errno."""
    try:
        return fn(*args)
    except OSError as e:
        return errno.errorcode[e.errno]


def see(u, fn, want, what=''):
    """fn() gives @want, or one of them (a set), after `ctl sync`; where there is none, within a second."""
    if KERNEL == 'fresh':
        remount(u)
    end = time.monotonic() + (0 if sync(u) else 1 * u.t.slow)
    while True:
        got = result(fn)
        if any(got == w for w in want) if isinstance(want, set) else got == want:
            return
        if time.monotonic() > end:
            if isinstance(got, dict) and isinstance(want, dict):
                raise Fail('%s\n  %s' % (what, '\n  '.join(tree.difference(got, want)[:20])))
            u.t.eq(got, want, what)
        time.sleep(0.002)


# ---- mounts of ours, or of the kernel

def by_kernel(u, where, lowers, upper):
    data = ['lowerdir=' + ':'.join(lowers)] + (['userxattr'] if u.t.ns == 'user' else [])
    if upper:
        data += ['upperdir=' + u.upper, 'workdir=' + u.work]
    k.mount('overlay', where, 'overlay', 0, ','.join(data))


def mount(u, *opts):
    u.check_lowers = False
    if not KERNEL:
        return u.mount(*(OPTIONS + opts))
    if u.t.identity == 'user':
        raise Skip('the kernel mounts nothing for a plain user')
    by_kernel(u, u.mnt, u.lowers, u.upper)
    return u


def remount(u):
    """The kernel's, anew; what is open stays open."""
    k.umount(u.mnt, k.MNT_DETACH)
    by_kernel(u, u.mnt, u.lowers, u.upper)


def fresh(u, *opts):
    """What a new mount of the same layers shows: all of them as lowers, so that ours stays as it is."""
    layers = ([u.upper] if u.upper else []) + u.lowers
    if KERNEL:
        at = u.t.plain('fresh')
        by_kernel(u, at, layers, None)
        try:
            return view(at)
        finally:
            k.umount(at)
    v = u.t.union(lowers=layers, upper=False, name='fresh%d' % len(u.t.unions))
    v.check_lowers = False
    v.data = u.data
    v.mount(*(OPTIONS + opts))
    seen = view(v.mnt)
    v.umount()
    return seen


# ---- looking

def view(root, times=True):
    """All that is seen of a tree: every object, and every listing with its types. Errors are seen, too."""
    out = {}

    def look(rel):
        p = os.path.join(root, rel) if rel else root
        # The data of a metacopy file may become shorter than the file. The kernel shows zeros then, or an early end
        # if nobody else told it anything while it was reading.
        out[rel or '.'] = d = result(tree.describe, p, times, True, True)
        if not isinstance(d, tuple) or stat.S_ISDIR(int(d[0], 8)):
            names = result(lambda: sorted((n, ty) for _, ty, n in k.listing(p) if n not in ('.', '..')))
            out[rel + '/'] = names
            for n, _ in names if isinstance(names, list) else ():
                look(os.path.join(rel, n))
    look('')
    return out


def state(p):
    """Type, then size and text of a file, target of a link, names in a directory; and is it in its parent's listing?"""
    def itself():
        st = os.lstat(p)
        kind = TYPES.get(stat.S_IFMT(st.st_mode), '?')
        if kind == 'file':
            return kind, st.st_size, result(tree.text, p)
        return (kind, result(os.readlink, p) if kind == 'link' else
                result(tree.names, p) if kind == 'dir' else '')
    listed = result(os.listdir, os.path.dirname(p))
    return result(itself), os.path.basename(p) in listed if isinstance(listed, list) else listed


def warm(u, misses=()):
    """Everything is in every cache, also that these names do not exist."""
    for _ in range(2):
        view(u.mnt)
        for n in misses:
            u.t.eq(result(os.lstat, u.m(n)), 'ENOENT', n)


class Mapped:
    """Another process that has a file mapped and tells what it reads there."""

    def __init__(self, path, size):
        self.ask, self.answer = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.close(self.ask[1])
                fd = os.open(path, os.O_RDONLY)
                m = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
                while os.read(self.ask[0], 1):
                    os.write(self.answer[1], m[:size])
            finally:
                os._exit(0)
        self.size = size

    def read(self):
        """Which characters are in it."""
        os.write(self.ask[1], b'?')
        return ''.join(sorted(set(os.read(self.answer[0], self.size).decode())))

    def close(self):
        for fd in self.ask + self.answer:
            os.close(fd)
        os.waitpid(self.pid, 0)


class Live:
    """A mounted union with warm caches, and the one layer of it that the test changes."""

    def __init__(self, t, layer, text, below, misses, lowers=2):
        self.t, self.which = t, layer
        self.u = u = t.union(lowers=lowers)
        stack = [u.upper] + u.lowers
        self.layer, self.below = stack[0 if layer == 'upper' else 1:][:2]
        tree.build(self.layer, text, t.ns)
        tree.build(self.below, below, t.ns)
        mount(u)
        warm(u, misses)

    def at(self, rel=''):
        """A path in the layer that is changed."""
        return os.path.join(self.layer, rel)

    def m(self, rel=''):
        return self.u.m(rel)

    def put(self, text):
        tree.build(self.layer, text, self.t.ns)

    def aside(self, text, name='aside'):
        """Made where no layer is, on the same file system, to be moved into one."""
        d = self.t.plain(name)
        tree.build(d, text, self.t.ns)
        return d

    def see(self, fn, want, what=''):
        see(self.u, fn, want, what)

    def file(self, rel, text):
        self.see(lambda: state(self.m(rel)), (('file', len(text), text), True), rel)

    def dir(self, rel, *names):
        self.see(lambda: state(self.m(rel)), (('dir', sorted(names)), True), rel)

    def link(self, rel, target):
        self.see(lambda: state(self.m(rel)), (('link', target), True), rel)

    def root(self, *names):
        self.see(lambda: tree.names(self.u.mnt), sorted(names), 'the root')

    def gone(self, *rels):
        for rel in rels:
            self.see(lambda: state(self.m(rel))[0], 'ENOENT', rel)
            self.see(lambda: rel.rpartition('/')[2] in (tree.names(os.path.dirname(self.m(rel)))
                                                        if os.path.isdir(os.path.dirname(self.m(rel))) else []),
                     False, 'listing with %s' % rel)

    def end(self):
        """And nothing else is other than a fresh mount has it."""
        self.see(lambda: view(self.u.mnt), fresh(self.u), 'ours -> a fresh mount')
        if not KERNEL:
            self.u.umount()


def live(text='', below='', misses=(), layers=('lower', 'upper'), **kw):
    """A test for a change in a lower, and one for the same in the upper: fn(c), c the Live."""
    def mark(fn):
        def register(layer):
            def case(t):
                c = Live(t, layer, text, below, misses)
                fn(c)
                c.end()
            case.__name__, case.__doc__, case.__module__ = '%s_%s' % (fn.__name__, layer), fn.__doc__, fn.__module__
            test(**kw)(case)
        for layer in layers:
            register(layer)
        return fn
    return mark
