# SPDX-License-Identifier: GPL-2.0-or-later
"""
What things cost: requests, system calls of the daemon, its memory and descriptors. Counted, so that
no noise can blur it.
"""
import mmap
import os
import re
import resource
import signal
import subprocess
import time

from lib import k, test, tree

AT_STATX_FORCE_SYNC = 0x2000

# Neither carry a request nor wait for one.
IDLE = {'futex', 'epoll_wait', 'sched_yield', 'read', 'writev', 'restart_syscall', 'clock_nanosleep',
        'mprotect', 'brk', 'mmap', 'munmap', 'madvise', 'rt_sigtimedwait', 'poll', 'io_uring_enter', 'sched_setaffinity'}


def _new(path, data=b''):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    if data:
        os.write(fd, data)
    os.close(fd)


def _files(d, n, data=b''):
    os.makedirs(d, exist_ok=True)
    for i in range(n):
        _new('%s/file-%06d' % (d, i), data)


class _Calls:
    """System calls of the daemon while something is done, by name."""

    def __init__(self, t, u):
        t.need('strace')
        self.t, self.u = t, u

    def during(self, fn):
        out = self.t.logs + '/calls.out'
        p = subprocess.Popen(['strace', '-f', '-q', '-p', str(self.u.daemon_pid()), '-o', out],
                             stderr=subprocess.DEVNULL)
        time.sleep(0.5 * self.t.slow)
        fn()
        time.sleep(0.1)
        p.send_signal(signal.SIGINT)
        p.wait()
        said = {}
        with open(out, errors='replace') as f:
            for line in f:
                m = re.match(r'\d+ +(\w+)\(', line)
                # Whether others have changed a layer: asked once for each request, of no layer.
                if m and m[1] not in IDLE and 'FIONREAD' not in line:
                    said[m[1]] = said.get(m[1], 0) + 1
        return said


@test(alone=True)
def requests_of_changes(t):
    """The floor of what the kernel asks, which nothing of ours adds to."""
    u = t.mounted('d d; f low hello')
    n = 100
    tree.read(u.m('low'))               # from now on the kernel knows of no OPEN
    os.listdir(u.m('d'))
    name = lambda k, i: u.m('d/%s%d' % (k, i))      # noqa: E731

    def each(fn):
        return lambda: [fn(i) for i in range(n)]
    steps = (('create, write, close', 5, lambda i: _new(name('f', i), b'x' * 4096)),
             ('rename', 3, lambda i: os.rename(name('f', i), name('g', i))),
             ('unlink', 2, lambda i: os.unlink(name('g', i))),
             ('mkdir', 3, lambda i: os.mkdir(name('d', i))),
             ('rmdir', 2, lambda i: os.rmdir(name('d', i))))
    for what, most, fn in steps:
        said = u.requests_during(each(fn))
        t.ok(sum(said.values()) <= most * n + 5, '%s: %r' % (what, said))


@test(alone=True)
def requests_of_a_walk(t):
    """The first walk with stat: listings only, two for a directory, no LOOKUP for a file."""
    u = t.union()
    for i in range(30):
        _files(u.low('d%02d' % i), 100)
    u.mount()

    def walk():
        n = 0
        for root, dirs, files in os.walk(u.mnt):
            for f in files:
                os.lstat(root + '/' + f)
                n += 1
        t.eq(n, 3000)
    said = u.requests_during(walk)
    t.ok(said.pop('READDIRPLUS') <= 31 * 3, 'listings')
    t.ok(sum(said.values()) <= 5, '%r' % said)
    # Reading a directory has moved its access time, which is asked for once.
    t.ok(sum(u.requests_during(walk).values()) <= 31)
    t.eq(u.requests_during(walk), {})


@test(identities=('root', 'userns'), alone=True)
def attributes_of_lower_files(t):
    """chmod, chown, utimes: one request each, as of any file, and GETXATTR for chown. The directory's
    own time of change, which the copy-up moves on the layer, is not shown, and nobody has to ask for it."""
    u = t.union()
    _files(u.low('d'), 300, b'data')
    u.mount()
    names = sorted(os.listdir(u.m('d')))
    for n in names:
        os.lstat(u.m('d/' + n))
    os.chmod(u.m('d/' + names[299]), 0o600)             # d and its parents are copied up
    before = os.stat(u.m('d'))

    def chmod():
        for n in names[:100]:
            os.chmod(u.m('d/' + n), 0o600)
            os.stat(u.m('d'))

    def utimes():
        for n in names[100:200]:
            os.utime(u.m('d/' + n), ns=(1, 2))
            os.stat(u.m('d'))
    for fn in (chmod, utimes):
        said = u.requests_during(fn)
        t.eq(said.pop('SETATTR'), 100)
        t.ok(sum(said.values()) <= 3, '%s: %r' % (fn.__name__, said))
    t.eq((os.stat(u.m('d')).st_ctime_ns, os.stat(u.m('d')).st_mtime_ns),
         (before.st_ctime_ns, before.st_mtime_ns))
    # Not what the kernel remembers, what the daemon says: it is asked again when a name goes.
    said = k.statx(u.m('d'), flags=k.AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC)
    t.eq(said['ctime'], before.st_ctime_ns)
    # A real change shows.
    os.unlink(u.m('d/' + names[200]))
    after = os.stat(u.m('d'))
    t.ok(after.st_ctime_ns > before.st_ctime_ns and after.st_mtime_ns > before.st_mtime_ns)
    os.chmod(u.m('d/' + names[201]), 0o600)
    t.eq(os.stat(u.m('d')).st_ctime_ns, after.st_ctime_ns)
    os.chmod(u.m('d'), 0o700)
    t.ok(os.stat(u.m('d')).st_ctime_ns > after.st_ctime_ns)


@test(identities=('root',), alone=True, needs=('strace',))
def calls_of_lookups(t):
    """In a listed directory a name costs at most two system calls, a missing one none, however many
    layers there are; the stat of a directory does not read it."""
    u = t.union(lowers=20)
    for i in range(20):
        _files(u.low('big', i), 10 if i else 5000)
    _files(u.low('other'), 100)
    u.mount(env={'ASAN_OPTIONS': 'detect_leaks=0:' + os.environ.get('ASAN_OPTIONS', '')})
    calls = _Calls(t, u)
    said = calls.during(lambda: os.stat(u.m('other')))
    t.eq(said.get('getdents64', 0), 0)
    names = os.listdir(u.m('big'))
    t.eq(len(names), 5000)
    # Those at the end of a huge listing come without attributes: each is looked up.
    last = names[-400:]

    def known():
        for n in last:
            os.lstat(u.m('big/' + n))

    def missing():
        for i in range(400):
            try:
                os.lstat(u.m('big/missing-%d' % i))
                t.ok(False)
            except FileNotFoundError:
                pass
    said = calls.during(lambda: t.eq(u.requests_during(known).get('LOOKUP', 0) >= 400, True))
    t.ok(sum(said.values()) <= 2 * 400 + 20, '%r' % said)
    said = calls.during(missing)
    t.ok(sum(said.values()) <= 20, '%r' % said)


@test(alone=True)
def huge_listings(t):
    """Names beyond the first 4,096 come without attributes until somebody looks some up."""
    u = t.union()
    _files(u.low('big'), 9000)
    u.mount()
    said = u.requests_during(lambda: t.eq(len(os.listdir(u.m('big'))), 9000))
    names = [e.name for e in os.scandir(u.m('big'))]
    t.ok(said.get('LOOKUP', 0) <= 5, '%r' % said)
    asked = u.requests_during(lambda: [os.lstat(u.m('big/' + n)) for n in names])
    t.ok(4000 < asked['LOOKUP'] < 5000, '%r' % asked)
    for n in names[::500]:
        t.eq(os.lstat(u.m('big/' + n)).st_ino, os.lstat(u.low('big/' + n)).st_ino)
    # stat of each as it is listed, as ls -l does: the rest comes with attributes after a while.
    u.remount()

    def ls_long():
        with os.scandir(u.m('big')) as it:
            for e in it:
                os.lstat(e.path)
    said = u.requests_during(ls_long)
    t.ok(said.get('LOOKUP', 0) < 1500, '%r' % said)
    t.eq(u.requests_during(ls_long).get('LOOKUP', 0), 0)
    # The same when the kernel has the listing from a plain ls: it asks for the rest again.
    u.remount()
    t.eq(sorted(os.listdir(u.m('big'))), sorted(names))
    listed = []

    def ls_long_then():
        with os.scandir(u.m('big')) as it:
            for e in it:
                listed.append(e.name)
                t.eq(os.lstat(e.path).st_ino, e.inode())
    said = u.requests_during(ls_long_then)
    t.ok(said.get('LOOKUP', 0) < 1500, '%r' % said)
    t.eq(sorted(listed), sorted(names))
    t.eq(u.requests_during(ls_long).get('LOOKUP', 0), 0)
    # And by none who only lists.
    t.ok(sum(u.requests_during(lambda: os.listdir(u.m('big'))).values()) < 100)
    t.ok(sum(u.requests_during(lambda: os.listdir(u.m('big'))).values()) <= 1)


@test(identities=('root',), alone=True)
def labels(t):
    """ls(1) asks each file for its label until it hears "not supported"."""
    if 'selinuxfs' in open('/proc/filesystems').read():
        t.skip('the kernel has SELinux')
    u = t.union(text='f plain 1; f other 1')
    os.setxattr(u.low('other'), 'user.x', b'1')
    u.mount()
    for n, want in (('plain', 'Operation not supported'), ('other', 'No data available')):
        try:
            os.getxattr(u.m(n), 'security.selinux')
            t.ok(False)
        except OSError as e:
            t.eq(os.strerror(e.errno), want, n)
    os.setxattr(u.m('plain'), 'security.selinux', b'a_u:b_r:c_t\0')
    t.eq(os.getxattr(u.m('plain'), 'security.selinux'), b'a_u:b_r:c_t\0')


def _rss(u):
    with open('/proc/%d/status' % u.daemon_pid()) as f:
        return int(re.search(r'VmRSS:\s+(\d+)', f.read())[1]) * 1024


@test(identities=('root',), alone=True, timeout=180)
def memory_and_descriptors(t):
    """A walk over many files with 1,024 descriptors: memory for each, and given back."""
    if t.slow > 1:
        t.skip('a sanitizer has memory of its own')
    n = 60
    u = t.union()
    for i in range(n):
        _files(u.low('d%02d' % i), 1000)
    u.mount(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)))
    before = _rss(u)
    for root, dirs, files in os.walk(u.mnt):
        for f in files:
            os.lstat(root + '/' + f)
    each = (_rss(u) - before) / (n * 1000)
    t.ok(each <= 550, '%d bytes for each inode and its listing entry' % each)
    t.ok(len(os.listdir('/proc/%d/fd' % u.daemon_pid())) < 1024)
    # The kernel forgets at once, memory follows some seconds later.
    for _ in range(20):
        t.drop_caches()
        time.sleep(1)
        if _rss(u) - before < n * 1000 * 120:
            break
    t.ok(_rss(u) - before < n * 1000 * 120, '%d KiB kept' % ((_rss(u) - before) / 1024))


@test(identities=('root', 'user'), timeout=120)
def mapped_files(t):
    """10,000 files kept mapped with 1,024 descriptors of the daemon."""
    n = 10000 if t.slow == 1 else 2000
    u = t.union()
    _files(u.low('d'), n, b'content')
    u.mount(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)))
    maps = []
    for i in range(n):
        fd = os.open(u.m('d/file-%06d' % i), os.O_RDONLY)
        maps.append(mmap.mmap(fd, 7, prot=mmap.PROT_READ))
        os.close(fd)
    t.ok(all(m[:] == b'content' for m in maps))
    t.ok(len(os.listdir('/proc/%d/fd' % u.daemon_pid())) < 1024)
    for m in maps:
        m.close()


@test(identities=('root', 'userns'), alone=True)
def five_hundred_layers(t):
    """Mounted in time, with the names of all."""
    u = t.union(lowers=500)
    for i in range(500):
        u.put('f f%d %d' % (i, i), i)
    begin = time.monotonic()
    u.mount()
    took = time.monotonic() - begin
    t.eq(len(os.listdir(u.mnt)), 500)
    t.eq(tree.text(u.m('f499')), '499')
    t.ok(took < 1.0 * t.slow, 'mounting took %.2f s' % took)


@test(alone=True)
def listing_again_after_a_change(t):
    """ls -l of a directory in which one name was made: no ACL is asked for again, and no attributes but those that
    reading has made old, which come with the listing."""
    u = t.union()
    _files(u.low('d'), 300, b'x')
    u.mount()

    def ls_long():
        with os.scandir(u.m('d')) as it:
            for e in it:
                st = os.lstat(e.path)
                try:
                    os.getxattr(e.path, 'system.posix_acl_access', follow_symlinks=False)
                    t.ok(False)
                except OSError:
                    pass
                seen[e.name] = st.st_ino, st.st_size, st.st_mode
    seen = {}
    ls_long()
    ls_long()
    tree.write(u.m('d/new'), '')
    said = u.requests_during(ls_long)
    t.ok(sum(n for op, n in said.items() if op != 'READDIRPLUS') <= 8, '%r' % said)
    for i in range(300):
        tree.read(u.m('d/file-%06d' % i))
    os.chmod(u.m('d/file-000007'), 0o600)
    tree.append(u.m('d/file-000008'), 'yz')
    tree.write(u.m('d/new2'), '')
    said = u.requests_during(ls_long)
    t.ok(said.get('GETATTR', 0) + said.get('LOOKUP', 0) <= 8, '%r' % said)
    t.eq(len(seen), 302)
    t.eq(seen['file-000008'][1], 3)
    t.eq(seen['file-000007'][2] & 0o777, 0o600)
    t.eq(seen['file-000009'], (os.lstat(u.low('d/file-000009')).st_ino, 1,
                               os.lstat(u.low('d/file-000009')).st_mode))


@test(identities=('root',), alone=True)
def calls_of_copyups_and_removals(t):
    """What need not be asked: a directory that was copied up leaves nothing to be unlinked, and is not asked by what refuses;
    a new file that is removed is not asked whether its data got to the disk."""
    u = t.union(text='; '.join('d dirs/d%02d' % i for i in range(40)) +
                '; ' + '; '.join('f files/f%02d 1' % i for i in range(40)))
    u.mount(env={'ASAN_OPTIONS': 'detect_leaks=0:' + os.environ.get('ASAN_OPTIONS', '')})
    calls = _Calls(t, u)
    os.chmod(u.m('dirs'), 0o750)
    os.chmod(u.m('files'), 0o750)
    for d in ('dirs', 'files'):
        for e in os.scandir(u.m(d)):
            os.lstat(e.path)

    def chmod_dirs():
        for i in range(40):
            os.chmod(u.m('dirs/d%02d' % i), 0o700)
    said = calls.during(chmod_dirs)
    t.eq(said.get('unlinkat', 0), 0, '%r' % said)
    t.ok(said.get('flistxattr', 0) <= 2, '%r' % said)

    def chmod_files():
        for i in range(40):
            os.chmod(u.m('files/f%02d' % i), 0o600)
    said = calls.during(chmod_files)
    # Events of the watch are read when they come.
    t.ok(sum(n for c, n in said.items() if c not in ('getpid', 'poll')) <= 18 * 40 + 20, '%r' % said)
    _files(u.m('new'), 40, b'x')

    def remove():
        for i in range(40):
            os.unlink(u.m('new/file-%06d' % i))
    said = calls.during(remove)
    t.eq(said.get('sync_file_range', 0), 0, '%r' % said)
