# SPDX-License-Identifier: GPL-2.0-or-later
"""
A layer that does not answer holds up those who use it, and nobody else. One client hangs; then others do what does not
need that layer, each with a time limit. HANGS_LOG: a file for a table of who waits for what; HANGS_KERNEL=1: also of
the kernel's overlayfs, to compare.
"""
import contextlib
import json
import os
import signal
import subprocess
import time

from lib import k, test, tree
from lib.disk import Disk
from lib.overlay import by_kernel
from lib.slow import Clients, Slow, detach

LIMIT = 1.5
PAD = '-' * 180


def _say(words):
    print(words)
    if 'HANGS_LOG' in os.environ:
        with open(os.environ['HANGS_LOG'], 'a') as f:
            f.write(words + '\n')


class Probes:
    """Each is a process of its own; what waits is left behind, until the layer answers."""

    def __init__(self, t, what):
        self.t, self.what, self.left, self.waited = t, what, [], []

    def __call__(self, name, fn, *args):
        begin = time.monotonic()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                fn(*args)
                status = 0
            except OSError as e:
                print('%s: %s: %s' % (self.what, name, e), flush=True)
            finally:
                os._exit(status)
        status = None
        while status is None and time.monotonic() < begin + LIMIT * self.t.slow:
            done, status = os.waitpid(pid, os.WNOHANG)
            status = status if done else None
            time.sleep(0.001)
        if status is None:
            self.left.append(pid)
            self.waited.append(name)
        self.t.ok(not status, '%s failed' % name)
        _say('%-34s %-24s %s' % (self.what, name, 'waits' if status is None else
                                 '%.1f ms' % (1e3 * (time.monotonic() - begin))))

    def end(self):
        for pid in self.left:
            os.waitpid(pid, 0)


def _is_missing(path):
    try:
        os.lstat(path)
    except FileNotFoundError:
        return
    raise OSError('it is there')


def _change(path):
    with open(path, 'r+b') as f:
        f.write(b'x')


def _make(path):
    with open(path, 'xb') as f:
        f.write(b'x')


def _list(path):
    return len(os.listdir(path))


def _status(t, u):
    return json.loads(t.run(t.binary, 'ctl', u.mnt, 'status', '--json'))


def _elsewhere(p, t, u, change=True):
    """What has nothing to do with the layer that hangs."""
    p('statfs', os.statvfs, u.mnt)
    p('root', os.lstat, u.mnt)
    p('known elsewhere', os.lstat, u.m('other/known'))
    p('new elsewhere', os.lstat, u.m('other/f1'))
    p('missing elsewhere', _is_missing, u.m('other/missing'))
    p('list elsewhere', _list, u.m('other/list'))
    p('read elsewhere', tree.read, u.m('other/f2'))
    if change:
        p('create elsewhere', _make, u.m('other/made'))
        p('write elsewhere', _change, u.m('other/f3'))
        p('mkdir elsewhere', os.mkdir, u.m('other/dir'))
        p('rename elsewhere', os.rename, u.m('other/f4'), u.m('other/g4'))
        p('remove elsewhere', os.unlink, u.m('other/f5'))
    if u.proc:
        p('ctl status', _status, t, u)


def _fill(u):
    """In the lower that answers; names of hung/ are in another as well."""
    tree.build(u.lowers[0], '; '.join(
        ['f hung/known k', 'd hung/sub', 'f hung/sub/x x', 'f new 1', 'f new2 2', 'd hung/dir', 'f hung/dir/x x'] +
        ['f hung/g%d g' % i for i in range(100)] + ['f other/f%d hello' % i for i in range(100)] +
        ['f other/known hello', 'f other/list/x y']))


@contextlib.contextmanager
def _known(u):
    """What the kernel and the daemon know before, and do not forget whoever empties the machine's caches."""
    held = [os.open(u.m(name), os.O_RDONLY)
            for name in ('hung/known', 'hung/sub', 'hung/dir', 'other/known', 'other/list')]
    tree.read(u.m('hung/known'))
    try:
        yield
    finally:
        for fd in held:
            os.close(fd)


def _mounted(img, at, how):
    return subprocess.run(['mount', '-o', how, img, at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


class Hung:
    """A lower with hung/sN, as a FUSE file system or as a disk, that answers nobody while it is stopped."""

    def __init__(self, t, kind, name):
        src, self.disk = t.plain(name), None
        text = '; '.join('f hung/s%d%s s' % (i, PAD) for i in range(2000))
        if kind == 'fuse':
            tree.build(src, text)
            self.slow = Slow(t, src, 0, name + '-slow')
            self.at, self.opts = self.slow.at, ('cache=immutable',)
            return
        self.opts = ()
        with open(src + '/img', 'wb') as f:
            f.truncate(256 << 20)
        t.run('mkfs.ext4', '-q', '-F', src + '/img')
        self.at = self.disk = t.plain(name + '-disk')
        if not _mounted(src + '/img', self.disk, 'loop'):
            t.skip('cannot mount an image')
        tree.build(self.disk, text)     # one after the other: the last are far from the first on the disk
        k.umount(self.disk)
        self.slow = Slow(t, src, 0, name + '-slow')
        if not _mounted(self.slow.at + '/img', self.disk, 'loop,ro,noload'):
            self.slow.close()
            t.skip('cannot mount an image')

    def close(self):
        self.slow.go_on()
        if self.disk:
            k.umount(self.disk, k.MNT_DETACH)
        self.slow.close()


def _use_the_rest(t, u, what, hung, client, *args):
    """One client is in hung/ and waits; returns what else waits."""
    with _known(u):
        return _probe(t, u, Probes(t, what), hung, client, *args)


def _probe(t, u, p, hung, client, *args):
    c = Clients()
    hung.slow.stop()
    try:
        c.start(client, *args)
        time.sleep(0.3 * t.slow)
        t.eq(c.running(), 1, 'nobody hangs')
        _elsewhere(p, t, u)
        p('new in the root', os.lstat, u.m('new'))
        p('known beside it', os.lstat, u.m('hung/known'))
        p('read beside it', tree.read, u.m('hung/known'))
        p('list below it', _list, u.m('hung/sub'))
        p('new beside it, above', os.lstat, u.m('hung/g1'))
        p('write beside it', _change, u.m('hung/known'))
        p('chmod of its directory', os.chmod, u.m('hung'), 0o711)
        # The last may wait for the directory; nobody is to wait for who waits.
        p('then, new in the root', os.lstat, u.m('new2'))
        p('then, new elsewhere', os.lstat, u.m('other/f50'))
        p('then, create elsewhere', _make, u.m('other/made2'))
        p('then, chmod elsewhere', os.chmod, u.m('other'), 0o711)
    finally:
        hung.slow.go_on()
    c.end()
    p.end()
    return p.waited


def _hung_lower(t, kind, what, client, name):
    hung = Hung(t, kind, 'src')
    try:
        u = t.union(lowers=2)
        u.lowers[1] = hung.at
        u.check_lowers = False
        _fill(u)
        if 'HANGS_KERNEL' in os.environ:
            with by_kernel(u):
                _use_the_rest(t, u, 'kernel, %s, %s' % (kind, what), hung, client, u.m(name))
            for d in (u.upper, u.work):
                t.run('find', d, '-mindepth', '1', '-delete')
            hung.close()
            hung = Hung(t, kind, 'again')
            u.lowers[1] = hung.at
        u.mount(*hung.opts)
        waited = _use_the_rest(t, u, 'ours, %s, %s' % (kind, what), hung, client, u.m(name))
        # The kernel has the lock of the directory that somebody looks into.
        t.eq(waited, ['chmod of its directory'])
        t.eq(len(os.listdir(u.m('hung'))), 2103)
        t.eq(tree.read(u.m('hung/known')), b'x')
        t.eq(os.lstat(u.m('hung')).st_mode & 0o777, 0o711)
        u.umount()
    finally:
        hung.close()


@test(identities=('root',), timeout=90, alone=True)
def lookup_on_a_disk(t):
    """A name is looked up on a disk that does not answer."""
    _hung_lower(t, 'disk', 'lookup', os.lstat, 'hung/s1900' + PAD)


@test(identities=('root',), timeout=90, alone=True)
def listing_of_a_disk(t):
    """A directory is listed on a disk that does not answer."""
    _hung_lower(t, 'disk', 'listing', _list, 'hung')


@test(identities=('root',), timeout=90, alone=True)
def lookup_in_a_fuse_layer(t):
    """A name is looked up in a FUSE layer that does not answer."""
    _hung_lower(t, 'fuse', 'lookup', os.lstat, 'hung/s1900' + PAD)


@test(identities=('root',), timeout=90, alone=True)
def listing_of_a_fuse_layer(t):
    """A directory is listed in a FUSE layer that does not answer."""
    _hung_lower(t, 'fuse', 'listing', _list, 'hung')


def _rename(u):
    os.rename(u.m('hung/dir'), u.m('hung/moved'))


def _create(u):
    _make(u.m('hung/made'))


def _copy_up(u):
    _change(u.m('hung/g7'))


def _frozen(t, client, waits):
    """The upper takes no change; of what changes nothing only @waits waits."""
    disk = Disk(t, ['mkfs.ext4', '-q', '-F'], 64 << 20)
    u = t.union()
    u.upper, u.work = disk.at + '/upper', disk.at + '/work'
    for d in (u.upper, u.work):
        os.mkdir(d)
    _fill(u)
    # Half of it is in the upper, and has been forgotten.
    tree.build(u.upper, '; '.join(['f upper/%d/f u' % i for i in range(100)]))
    u.mount()
    p = Probes(t, 'ours, frozen upper, ' + client.__name__.strip('_'))
    with _known(u):
        _change(u.m('hung/known'))
        os.chmod(u.m('hung/dir'), 0o711)
        _probe_frozen(t, u, p, disk, client)
    t.eq(p.waited, waits)
    t.eq(len(os.listdir(u.m('hung'))), 103 + (client is _create))
    u.umount()
    k.umount(disk.at)


def _probe_frozen(t, u, p, disk, client):
    c = Clients()
    t.run('fsfreeze', '-f', disk.at)
    try:
        c.start(client, u)
        time.sleep(0.3 * t.slow)
        t.eq(c.running(), 1, 'nobody hangs')
        _elsewhere(p, t, u, change=False)
        for i in range(20):
            p('upper, new elsewhere', tree.read, u.m('upper/%d/f' % i))
        p('known beside it', os.lstat, u.m('hung/known'))
        p('read beside it', tree.read, u.m('hung/known'))
        p('list below it', _list, u.m('hung/sub'))
        p('new beside it', os.lstat, u.m('hung/g1'))
        p('list it', _list, u.m('hung'))
    finally:
        t.run('fsfreeze', '-u', disk.at)
    c.end()
    p.end()


# The kernel has the lock of a directory while names in it change.
LOCKED = ['new beside it', 'list it']


@test(identities=('root',), timeout=60, alone=True, needs=('fsfreeze',))
def rename_on_a_frozen_upper(t):
    _frozen(t, _rename, LOCKED)


@test(identities=('root',), timeout=60, alone=True, needs=('fsfreeze',))
def create_on_a_frozen_upper(t):
    _frozen(t, _create, LOCKED)


@test(identities=('root',), timeout=60, alone=True, needs=('fsfreeze',))
def copy_up_to_a_frozen_upper(t):
    _frozen(t, _copy_up, [])


@test(identities=('root',), timeout=60, alone=True)
def forgotten_while_a_layer_hangs(t):
    """The kernel forgets directories of a FUSE layer that hangs: others are forgotten all the same, and requests served."""
    src = t.plain('src')
    for i in range(100):
        tree.build(src, 'f far/d%d/x x' % i)
    slow = Slow(t, src, 0)
    try:
        u = t.union(lowers=2)
        u.lowers[1] = slow.at
        u.check_lowers = False
        tree.build(u.lowers[0], '; '.join('f near/d%d/x x' % i for i in range(300)))
        u.mount()
        for top in ('far', 'near'):
            for d in os.listdir(u.m(top)):
                os.listdir(u.m(top + '/' + d))
                tree.read(u.m(top + '/' + d + '/x'))
        before = _status(t, u)['state']['inodes']
        t.ok(before > 800, before)
        slow.stop()
        k.drop_caches(2)
        end = time.monotonic() + 5 * t.slow
        while time.monotonic() < end and _status(t, u)['state']['inodes'] > before / 4:
            time.sleep(0.05)
        left = _status(t, u)['state']['inodes']
        t.ok(left <= before / 4, 'only %d of %d were forgotten' % (before - left, before))
        t.ok(len(os.listdir('/proc/%d/task' % u.daemon_pid())) < 12)
        slow.go_on()
        t.eq(tree.read(u.m('far/d1/x')), b'x')
        u.umount()
    finally:
        slow.close()


@test(identities=('root',), timeout=60, alone=True, needs=('fsfreeze',))
def unmounted_while_names_hang(t):
    """umount -l and SIGTERM work while a lookup, a listing and a create hang."""
    for how in ('umount', 'signal'):
        hung = Hung(t, 'fuse', how)
        disk = Disk(t, ['mkfs.ext4', '-q', '-F'], 64 << 20)
        u = t.union(lowers=2, name='u-' + how)
        u.lowers[1] = hung.at
        u.upper, u.work, u.check_lowers = disk.at + '/upper', disk.at + '/work', False
        for d in (u.upper, u.work):
            os.mkdir(d)
        _fill(u)
        u.mount(*hung.opts)
        os.lstat(u.m('hung/known'))
        os.lstat(u.m('other/known'))
        c = Clients()
        t.run('fsfreeze', '-f', disk.at)
        hung.slow.stop()
        try:
            c.start(os.lstat, u.m('hung/s1900' + PAD))
            c.start(_list, u.m('hung'))
            c.start(_make, u.m('other/made'))
            time.sleep(0.3 * t.slow)
            t.eq(c.running(), 3)
            begin = time.monotonic()
            if how == 'umount':
                detach(t, u.mnt)
            else:
                os.kill(u.daemon_pid(), signal.SIGTERM)
            while k.mounted_at(u.mnt) and time.monotonic() < begin + 10:
                time.sleep(0.01)
            t.eq(k.mounted_at(u.mnt), [])
            t.ok(time.monotonic() - begin < 2 * t.slow)
        finally:
            hung.slow.go_on()
            t.run('fsfreeze', '-u', disk.at)
        c.end()
        u.wait_end()
        hung.close()
        k.umount(disk.at)
