# SPDX-License-Identifier: GPL-2.0-or-later
"""
Passthrough: the kernel reads, writes and maps files of a layer by itself. What that changes for a user is nothing; where
it is not to happen (what may yet be copied up) it does not; and where it happens no request comes for data.
"""
import ctypes
import errno
import json
import mmap
import os
import resource
import shutil
import signal
import stat
import subprocess
import threading
import time

from lib import k, test, tree

ON = 'passthrough=on'
DATA = ('READ', 'WRITE')
libc = ctypes.CDLL(None, use_errno=True)


def _need(t):
    u = t.union(name='ask', text='f a')
    p = subprocess.run(u.command((ON,), foreground=False), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    if 'does not offer it' in p.stdout or 'CAP_SYS_ADMIN' in p.stdout:
        t.skip(p.stdout.strip())
    t.eq((p.returncode, p.stdout), (0, ''))
    k.umount(u.mnt)


def _mounted(t, text='', *opts, **kw):
    _need(t)
    return t.mounted(text, ON, *opts, **kw)


def _status(t, u):
    return json.loads(t.run(t.binary, 'ctl', u.mnt, 'status', '--json'))


def _data_requests(u, fn):
    return {n: c for n, c in u.requests_during(fn).items() if n in DATA}


def _read(path):
    with open(path, 'rb') as f:
        return f.read()


def _wait_released(u):
    """RELEASE comes some time after the last close."""
    u.t.run(u.t.binary, 'ctl', u.mnt, 'sync')
    time.sleep(0.05)


root = dict(identities=('root',))


# ---- is it used, and where

@test(identities=('root',), everywhere=True)
def is_used(t):
    """What has its data in the upper, and anything where there is no upper; on each file system."""
    u = _mounted(t, 'f low hello')
    t.eq(_status(t, u)['daemon']['passthrough'], 'on')
    big = os.urandom(3 << 20)

    def new():
        with open(u.m('new'), 'wb') as f:
            f.write(big)
        t.eq(_read(u.m('new')) == big, True)
    t.eq(_data_requests(u, new), {}, 'a new file')
    t.eq(_read(u.up('new')) == big, True, 'in the upper')
    t.eq(os.stat(u.m('new')).st_size, len(big))
    t.eq(_data_requests(u, lambda: _read(u.m('low'))), {'READ': 1}, 'a lower file, which may be copied up')
    u.umount()
    r = t.union(upper=False, name='ro', text='f low hello; f d/other xx')
    r.mount(ON)
    t.eq(_data_requests(r, lambda: t.eq(_read(r.m('low')) + _read(r.m('d/other')), b'helloxx')), {}, 'no upper')
    r.umount()


@test(**root)
def read_only_mount_of_an_upper(t):
    """`ro` with an upper: nothing is ever copied up."""
    u = t.union(text='f low hello')
    tree.build(u.upper, 'f up there')
    _need(t)
    u.mount(ON, 'ro')
    t.eq(_data_requests(u, lambda: t.eq(_read(u.m('low')) + _read(u.m('up')), b'hellothere')), {})
    t.fails(errno.EROFS, os.open, u.m('low'), os.O_WRONLY)
    u.umount()


@test(**root)
def default(t):
    """Where OPEN is answered anyway (cache=none), and nowhere else; `off` means it."""
    _need(t)
    if t.passes:
        t.skip('it is asked for')
    for opts, want in (((), 'off'), (('timeout=0',), 'on'), (('cache=none',), 'on'), (('timeout=0', 'passthrough=off'), 'off'),
                       (('passthrough=auto',), 'off'), (('passthrough=off',), 'off'), (('timeout=1', ON), 'on')):
        u = t.mounted('f a hello', *opts)
        t.eq(_status(t, u)['daemon']['passthrough'], want, opts)
        t.eq(_read(u.m('a')), b'hello')
        u.umount()
        t.eq(u.log_text(), '')


@test()
def refused(t):
    """Without the capability, and together with writeback=1: one sentence, and no mount."""
    u = t.union(text='f a hello')
    why = 'option passthrough=on excludes writeback=1'
    cases = [(('passthrough=on', 'writeback=1'), why)]
    if not t.root:
        cases += [((ON,), 'passthrough=on: it takes CAP_SYS_ADMIN in the initial user namespace')]
    for opts, want in cases:
        p = subprocess.run(u.command(opts, foreground=False), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
        if 'does not offer it' in p.stdout:
            t.skip(p.stdout.strip())
        t.eq(p.returncode, 1)
        t.ok(p.stdout.startswith('fuse-unionfs: ' + want) and p.stdout.count('\n') == 1, p.stdout)
        t.ok(not k.mounted_at(u.mnt), 'nothing is left')
    u.mount('timeout=0')
    t.eq(_read(u.m('a')), b'hello')
    t.eq(_status(t, u)['daemon']['passthrough'], 'on' if t.root else 'off')
    u.umount()
    t.eq(u.log_text(), '')


@test(**root)
def without_the_capability(t):
    """Real root in a sandbox that has taken it away: `auto` goes without, in silence."""
    _need(t)
    if t.passes:
        t.skip('it is asked for')
    u = t.union(text='f a hello')

    def drop():
        libc.prctl(24, 21, 0, 0, 0)                     # PR_CAPBSET_DROP, CAP_SYS_ADMIN
    fd = os.open('/dev/fuse', os.O_RDWR)
    os.set_inheritable(fd, True)
    k.mount('fuse', u.mnt, 'fuse.fuse-unionfs', 0, 'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions' % fd)
    cmd = u.command(('timeout=0',))
    cmd[-1] = '/dev/fd/%d' % fd
    p = subprocess.Popen(cmd, pass_fds=(fd,), preexec_fn=drop, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.close(fd)
    try:
        t.eq(_read(u.m('a')), b'hello')
        t.eq(_status(t, u)['daemon']['passthrough'], 'off')
    finally:
        k.umount(u.mnt)
        p.wait()


# ---- what a user sees

def _everything(d):
    """What is done with files, as (name, what came of it)."""
    out = []
    p = d + '/f'

    def say(what, v):
        out.append((what, v))
    fd = os.open(p, os.O_RDWR | os.O_CREAT, 0o644)
    say('write', os.write(fd, b'0123456789'))
    say('pread', os.pread(fd, 100, 3))
    say('size', os.fstat(fd).st_size)
    os.pwrite(fd, b'END', 5000)
    say('sparse', (os.fstat(fd).st_size, _read(p)[5000:]))
    os.ftruncate(fd, 6000)
    say('longer', (os.fstat(fd).st_size, os.stat(p).st_size, len(_read(p))))
    os.truncate(p, 7)
    say('shorter', (os.fstat(fd).st_size, _read(p)))
    a = os.open(p, os.O_WRONLY | os.O_APPEND)
    os.write(a, b'-a-')
    os.write(fd, b'')
    say('appended', (_read(p), os.lseek(fd, 0, os.SEEK_END)))
    os.pwrite(a, b'p', 0)
    say('O_APPEND and pwrite', _read(p))
    m = mmap.mmap(fd, 8)
    m[0:3] = b'map'
    say('seen from a mapping', (os.pread(fd, 3, 0), m[:]))
    os.pwrite(fd, b'W', 1)
    say('seen in a mapping', m[:4])
    m.flush()
    m.close()
    for f in (fd, a):
        os.fsync(f)
        os.fdatasync(f)
    k.fallocate(fd, 0, 0, 20000)
    say('fallocate', os.fstat(fd).st_size)
    os.pwrite(fd, b'x' * 20000, 0)
    k.fallocate(fd, 3, 4096, 8192)
    say('hole', (_read(p)[4096:12288].strip(b'\0'), len(_read(p)), os.lseek(fd, 0, os.SEEK_HOLE)))
    b = os.open(d + '/g', os.O_RDWR | os.O_CREAT)
    say('copy_file_range', (os.copy_file_range(fd, b, 20000, 0, 0), _read(d + '/g') == _read(p)))
    os.lseek(fd, 0, os.SEEK_SET)
    say('sendfile', os.sendfile(b, fd, 0, 100))
    os.unlink(p)
    say('unlinked', (os.pread(fd, 4, 0), os.pwrite(fd, b'still', 0), os.pread(fd, 5, 0), os.fstat(fd).st_nlink))
    os.link(d + '/g', d + '/h')
    os.pwrite(b, b'both', 0)
    say('hard links', (_read(d + '/h')[:4], os.stat(d + '/h').st_nlink, os.stat(d + '/h').st_ino == os.stat(d + '/g').st_ino))
    os.rename(d + '/h', d + '/i')
    os.pwrite(b, b'i', 0)
    say('renamed', _read(d + '/i')[:4])
    tmp = os.open(d, os.O_RDWR | os.O_TMPFILE, 0o600)
    os.write(tmp, b'nameless')
    k.link_fd(tmp, d + '/named')
    say('O_TMPFILE', _read(d + '/named'))
    t = os.open(d + '/g', os.O_WRONLY | os.O_TRUNC)
    say('O_TRUNC', (os.fstat(b).st_size, os.stat(d + '/g').st_size))
    for f in (fd, a, b, tmp, t):
        os.close(f)
    shutil.copy('/bin/true', d + '/true')
    say('exec', subprocess.run([d + '/true']).returncode)
    e = os.open(d + '/true', os.O_RDWR)
    say('ETXTBSY', _errno(lambda: subprocess.run([d + '/true'])))
    os.close(e)
    return out


def _errno(fn):
    try:
        fn()
    except OSError as e:
        return e.errno
    return 0


@test(identities=('root',), everywhere=True)
def as_on_a_plain_directory(t):
    """Reading, writing, truncating, mapping, appending, holes, links, nameless files, programs."""
    want = _everything(t.plain())
    u = _mounted(t)
    t.eq(_everything(u.mnt), want)
    u.umount()
    t.eq(u.log_text(), '')


@test(**root)
def lower_files_are_written(t):
    """The same file, in a lower first: copied up while it is open, by any of those ways."""
    u = _mounted(t, 'f a lower-a; f b lower-b; f c lower-c; f d lower-d; f e lower-e')
    reader = os.open(u.m('a'), os.O_RDONLY)
    t.eq(os.pread(reader, 10, 0), b'lower-a')
    mapped = mmap.mmap(reader, 7, prot=mmap.PROT_READ)
    w = os.open(u.m('a'), os.O_RDWR)
    os.pwrite(w, b'UPPER', 0)
    t.eq((os.pread(reader, 10, 0), mapped[:7]), (b'UPPER-a', b'UPPER-a'), 'who had it open sees it')
    t.eq(_read(u.up('a')), b'UPPER-a')
    more = os.open(u.m('a'), os.O_RDONLY)
    t.eq(os.pread(more, 10, 0), b'UPPER-a')
    os.pwrite(w, b'again', 0)
    t.eq((os.pread(more, 10, 0), os.pread(reader, 10, 0)), (b'again-a', b'again-a'))
    for f in (reader, w, more):
        os.close(f)
    mapped.close()
    with open(u.m('b'), 'ab') as f:
        f.write(b'+')
    os.truncate(u.m('c'), 5)
    with open(u.m('d'), 'wb') as f:
        f.write(b'new')
    os.chmod(u.m('e'), 0o600)                       # metacopy: its data stays below
    t.eq(_read(u.m('e')), b'lower-e')
    t.eq([_read(u.m(n)) for n in 'bcde'], [b'lower-b+', b'lower', b'new', b'lower-e'])
    with open(u.m('e'), 'r+b') as f:
        f.write(b'filled')
    _wait_released(u)
    t.eq([_read(u.up(n)) for n in 'abcde'], [b'again-a', b'lower-b+', b'lower', b'new', b'fillede'])
    t.eq(_data_requests(u, lambda: [_read(u.m(n)) for n in 'abcde']), {}, 'all of it is in the upper now')
    with open(u.m('a'), 'r+b') as f:
        f.write(b'third')
    t.eq(_read(u.m('a')), b'third-a')
    u.umount()


@test(**root)
def pages_read_before(t):
    """What was read by the page cache of the mount is not shown after a write past it."""
    u = _mounted(t, 'f a lower')
    with open(u.m('a'), 'r+b') as f:
        f.write(b'LOWER')
        f.flush()
        t.eq(_read(u.m('a')), b'LOWER')             # pages of the mount
    _wait_released(u)
    for i in range(20):
        text = b'%05d' % i
        with open(u.m('a'), 'r+b') as f:
            f.write(text)
        t.eq((_read(u.m('a')), _read(u.up('a'))), (text, text))
    u.umount()


@test(**root)
def attributes(t):
    """Size and times are those of the layer's file, however it was written; of a mapping too."""
    u = _mounted(t)
    p, q = u.m('f'), u.up('f')

    def same(what):
        a, b = os.stat(p), os.stat(q)
        t.eq((a.st_size, a.st_mtime_ns, a.st_blocks), (b.st_size, b.st_mtime_ns, b.st_blocks), what)
    fd = os.open(p, os.O_RDWR | os.O_CREAT)
    same('new')
    os.write(fd, b'x' * 5000)
    same('written')
    m = mmap.mmap(fd, 4096)
    same('mapped')
    time.sleep(0.02)
    m[0] = 1
    same('by a mapping')
    os.close(fd)
    same('closed')
    m.flush()
    time.sleep(0.02)
    m[1] = 2
    same('by a mapping of a closed file')
    m.flush()
    m.close()
    os.utime(p, ns=(10**18, 10**18))
    t.eq(os.stat(p).st_mtime_ns, 10**18)
    time.sleep(0.1)
    t.eq(os.stat(q).st_mtime_ns, 10**18, 'set by hand')
    w = os.open(p, os.O_WRONLY)
    for i in range(5):
        time.sleep(0.01)
        os.write(w, b'12345')
        same('write %d' % i)
    os.close(w)
    same('closed again')
    u.umount()


@test(**root)
def set_id_bits(t):
    """A write by who may not keep them takes them, on the disk and in what the kernel believes."""
    u = _mounted(t)
    p = u.m('f')
    shutil.copy('/bin/true', p)
    for mode in (0o4777, 0o2777, 0o6777):
        os.chmod(p, mode)
        _wait_released(u)

        def write():
            fd = os.open(p, os.O_WRONLY)
            os.pwrite(fd, b'\x7f', 0)
            os.close(fd)
        t.as_user(1000, write)
        t.eq((stat.S_IMODE(os.stat(p).st_mode), stat.S_IMODE(os.stat(u.up('f')).st_mode)), (0o777, 0o777), oct(mode))
        os.chmod(p, mode)
        write()
        t.eq(stat.S_IMODE(os.stat(p).st_mode), mode, 'root keeps them')
    os.chmod(p, 0o777)
    fd = os.open(p, os.O_WRONLY)
    os.chmod(p, 0o4777)                                 # they come while it is open

    def inherited():
        os.pwrite(fd, b'\x7f', 0)
        return stat.S_IMODE(os.fstat(fd).st_mode)
    t.eq(t.as_user(1000, inherited), 0o777)
    t.eq(stat.S_IMODE(os.stat(u.up('f')).st_mode), 0o777)
    os.close(fd)
    os.setxattr(p, 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))
    with open(p, 'r+b') as f:
        f.write(b'\x7f')
    t.fails(errno.ENODATA, os.getxattr, p, 'security.capability')
    u.umount()


@test(**root)
def protected_files(t):
    """What may not be written is not, although root's kernel would do it for the daemon."""
    u = _mounted(t)
    tree.write(u.m('i'), 'immutable')
    tree.write(u.m('a'), 'append')
    k.set_flags(u.m('i'), k.get_flags(u.m('i')) | 0x10)
    k.set_flags(u.m('a'), k.get_flags(u.m('a')) | 0x20)
    _wait_released(u)

    def write(n, flags=0):
        fd = os.open(u.m(n), os.O_WRONLY | flags)
        try:
            os.write(fd, b'+')
        finally:
            os.close(fd)
    readers = [os.open(u.m(n), os.O_RDONLY) for n in 'ia']
    t.fails(errno.EPERM, write, 'i')
    t.fails(errno.EPERM, write, 'i', os.O_APPEND)
    t.fails(errno.EPERM, write, 'a')
    write('a', os.O_APPEND)
    t.eq((_read(u.m('i')), _read(u.m('a'))), (b'immutable', b'append+'))
    for f in readers:
        os.close(f)
    for n in 'ia':
        k.set_flags(u.m(n), k.get_flags(u.m(n)) & ~0x30)
    u.umount()


@test(identities=('root',), everywhere=True)
def direct(t):
    """O_DIRECT, beside others who have it open without."""
    u = _mounted(t)
    p = u.m('f')
    tree.write(p, 'x' * 8192)
    try:
        os.close(os.open(u.up('f'), os.O_RDONLY | os.O_DIRECT))
    except OSError:
        t.skip('no O_DIRECT here')
    plain = os.open(p, os.O_RDWR)
    fd = os.open(p, os.O_RDWR | os.O_DIRECT)
    buf = k.aligned(4096, b'D' * 4096)
    t.eq(os.pwritev(fd, [buf], 4096), 4096)
    t.eq(os.pread(plain, 8192, 0), b'x' * 4096 + b'D' * 4096)
    os.pwrite(plain, b'P' * 4096, 0)
    t.eq((os.preadv(fd, [buf], 0), bytes(buf)), (4096, b'P' * 4096))
    for f in (fd, plain):
        os.close(f)
    u.umount()


@test(**root)
def direct_where_there_is_none(t):
    """A layer without O_DIRECT: what the kernel's page cache does for others it goes on doing."""
    t.need('mksquashfs')
    src = t.plain('src')
    tree.build(src, 'f a hello')
    t.run('mksquashfs', src, t.dir + '/image', '-quiet', '-no-progress')
    os.mkdir(t.dir + '/squash')
    if subprocess.run(['mount', '-o', 'loop', t.dir + '/image', t.dir + '/squash'], stderr=subprocess.DEVNULL).returncode:
        t.skip('no squashfs')
    try:
        u = t.union(lowers=[t.dir + '/squash'], upper=False, name='sq')
        _need(t)
        u.mount(ON)
        t.eq(_data_requests(u, lambda: t.eq(_read(u.m('a')), b'hello')), {})
        buf = k.aligned(4096)
        fd = os.open(u.m('a'), os.O_RDONLY | os.O_DIRECT)
        t.eq((os.preadv(fd, [buf], 0), bytes(buf)[:5]), (5, b'hello'))
        os.close(fd)
        u.umount()
    finally:
        t.run('umount', t.dir + '/squash')


# ---- many, and mixed

@test(identities=('root',), timeout=90)
def ways_never_mix(t):
    """Whoever opens, whenever: readers and writers of files that are copied up meanwhile never see EIO or old data."""
    n = 12
    u = _mounted(t, '; '.join('f f%d %s' % (i, '0' * 64) for i in range(n)))
    end = time.monotonic() + 6
    wrong = []

    def work(seed):
        import random
        rnd = random.Random(seed)
        while time.monotonic() < end and not wrong:
            p = u.m('f%d' % rnd.randrange(n))
            try:
                how = rnd.randrange(6)
                fd = os.open(p, os.O_RDONLY if how < 3 else os.O_RDWR)
                if how == 5:
                    os.pwrite(fd, b'%d' % rnd.randrange(10) * 64, 0)
                data = os.pread(fd, 100, 0)
                if len(data) != 64 or (how < 3 and data.strip(b'0123456789')):
                    wrong.append((p, data))
                if how == 4:
                    m = mmap.mmap(fd, 64)
                    os.close(fd)
                    m[:1]
                    m.close()
                else:
                    os.close(fd)
            except Exception as e:                  # noqa
                wrong.append((p, repr(e)))
    kids = []
    for i in range(4):
        pid = os.fork()
        if pid == 0:
            threads = [threading.Thread(target=work, args=(10 * i + j,)) for j in range(3)]
            [x.start() for x in threads]
            [x.join() for x in threads]
            if wrong:
                os.write(2, repr(wrong[:3]).encode() + b'\n')
            os._exit(1 if wrong else 0)
        kids.append(pid)
    t.eq([os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in kids], [0] * 4)
    for i in range(n):
        t.eq(_read(u.m('f%d' % i)), _read(u.up('f%d' % i)) if os.path.exists(u.up('f%d' % i)) else b'0' * 64)
    u.umount()
    t.eq(u.log_text(), '')


@test(**root)
def opened_by_many(t):
    """One file by 500 descriptors, and 500 files; nothing is left in the daemon afterwards."""
    u = _mounted(t)
    tree.write(u.m('f'), 'hello')
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    fds = [os.open(u.m('f'), os.O_RDWR if i % 2 else os.O_RDONLY) for i in range(500)]
    os.pwrite(fds[1], b'HELLO', 0)
    t.eq({os.pread(fd, 5, 0) for fd in fds}, {b'HELLO'})
    for fd in fds:
        os.close(fd)
    fds = [os.open(u.m('n%d' % i), os.O_RDWR | os.O_CREAT) for i in range(500)]
    for i, fd in enumerate(fds):
        os.write(fd, b'%d' % i)
    t.eq([os.pread(fd, 9, 0) for fd in fds], [b'%d' % i for i in range(500)])
    for fd in fds:
        os.close(fd)
    _wait_released(u)
    for i in range(3):                              # numbers are given back, and taken again
        t.eq(_data_requests(u, lambda: [_read(u.m('n%d' % i)) for i in range(500)]), {})
    u.umount()


@test(identities=('root',), filesystems=('tmpfs',))
def nothing_is_kept(t):
    """The kernel lets go of a layer's file with the last who has it open: a removed one gives its room back."""
    u = _mounted(t, 'f low x')

    def free():
        st = os.statvfs(u.upper)
        return st.f_bfree * st.f_frsize
    before = free()
    for i in range(20):
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY):
            fd = os.open(u.m('f'), flags | os.O_CREAT)
            if flags == os.O_WRONLY:
                os.write(fd, bytes(1 << 20))
            os.close(fd)
        fd = os.open(u.m('f'), os.O_RDWR)
        m = mmap.mmap(fd, 4096)
        os.unlink(u.m('f'))
        m[0] = 1
        os.close(fd)
        m.close()
    end = time.monotonic() + 10 * t.slow
    while free() < before - (1 << 20) and time.monotonic() < end:
        time.sleep(0.1)
    t.ok(free() >= before - (1 << 20), 'of 20 MiB %.1f are not given back' % ((before - free()) / 2**20))
    t.ok(len(os.listdir('/proc/%d/fd' % u.daemon_pid())) < 60)
    u.umount()


@test(**root)
def few_descriptors(t):
    """A daemon that may have few: files are passed through all the same, and none fails."""
    _need(t)
    u = t.union(text='f a hello')

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    u.mount(ON, 'threads=2', preexec_fn=limit)
    fds = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    for i in range(600):
        fds.append(os.open(u.m('n%d' % i), os.O_RDWR | os.O_CREAT))
        os.write(fds[-1], b'%d' % i)
    t.eq([os.pread(fd, 9, 0) for fd in fds], [b'%d' % i for i in range(600)])
    t.ok(len(os.listdir('/proc/%d/fd' % u.daemon_pid())) < 256)
    for fd in fds:
        os.close(fd)
    u.umount()


# ---- pages

def _resident(path):
    """Pages of @path in the page cache, as mincore(2) has it."""
    size = os.path.getsize(path)
    fd = os.open(path, os.O_RDONLY)
    m = mmap.mmap(fd, size, prot=mmap.PROT_READ)
    os.close(fd)
    vec = (ctypes.c_ubyte * ((size + 4095) // 4096))()
    libc.mmap.restype = ctypes.c_void_p
    fd = os.open(path, os.O_RDONLY)
    at = libc.mmap(None, ctypes.c_size_t(size), 1, 1, fd, ctypes.c_long(0))
    os.close(fd)
    if libc.mincore(ctypes.c_void_p(at), ctypes.c_size_t(size), vec):
        raise OSError(ctypes.get_errno(), 'mincore')
    libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(size))
    m.close()
    return sum(v & 1 for v in vec)


def _cached():
    with open('/proc/meminfo') as f:
        v = dict(line.split(':') for line in f)
    return int(v['Cached'].split()[0]) * 1024


@test(identities=('root',), filesystems=('ext4',), alone=True)
def one_page_cache(t):
    """A lower file of 64 MiB read in 8 mounts without upper: its pages are there once; without passthrough 9 times."""
    size = 64 << 20
    low = t.plain('low')
    with open(low + '/big', 'wb') as f:
        f.write(os.urandom(1 << 20) * 64)
    _need(t)
    grew = {}
    for opt in (ON, 'passthrough=off'):
        all = [t.union(lowers=[low], upper=False, name='%s%d' % (opt[-2:], i)) for i in range(8)]
        for u in all:
            u.check_lowers = False
            u.mount(opt)
        os.sync()
        k.drop_caches(1)
        before = _cached()
        for u in all:
            with open(u.m('big'), 'rb') as f:
                while f.read(1 << 20):
                    pass
        grew[opt] = (_cached() - before) / size
        t.eq(_resident(low + '/big'), size // 4096, 'in the layer')
        if opt == ON:
            t.eq({_resident(u.m('big')) for u in all}, {size // 4096}, 'the mounts have the same pages')
        for u in all:
            u.umount()
    t.ok(grew[ON] < 1.5, 'with passthrough the page cache grew by %.1f times the file' % grew[ON])
    t.ok(grew['passthrough=off'] > 6, 'without by %.1f times' % grew['passthrough=off'])


@test(**root)
def mapping_is_shared(t):
    """A write to the layer's file is in a mapping through the mount at once, and the other way round."""
    u = _mounted(t)
    tree.write(u.m('f'), 'a' * 4096)
    fd = os.open(u.m('f'), os.O_RDWR)
    m = mmap.mmap(fd, 4096)
    os.close(fd)
    _wait_released(u)
    below = os.open(u.up('f'), os.O_RDWR)
    os.pwrite(below, b'BELOW', 0)
    t.eq(m[:5], b'BELOW')
    m[:5] = b'ABOVE'
    t.eq(os.pread(below, 5, 0), b'ABOVE')
    again = os.open(u.m('f'), os.O_RDWR)
    os.pwrite(again, b'AGAIN', 0)
    t.eq((m[:5], os.pread(below, 5, 0)), (b'AGAIN', b'AGAIN'))
    os.close(again)
    os.close(below)
    m.close()
    u.umount()


# ---- stacks

@test(**root)
def an_overlay_on_top(t):
    """The kernel's overlayfs takes a mount of ours as its lower; files are passed through two storeys."""
    u = _mounted(t, 'f low lower; f d/x deep')
    tree.write(u.m('up'), 'upper')
    top = t.dir + '/top'
    for d in ('', '/mnt', '/upper', '/work'):
        os.mkdir(top + d)
    k.mount('overlay', top + '/mnt', 'overlay', 0, 'lowerdir=%s,upperdir=%s/upper,workdir=%s/work' % (u.mnt, top, top))
    try:
        t.eq([_read(top + '/mnt/' + n) for n in ('low', 'up', 'd/x')], [b'lower', b'upper', b'deep'])
        t.eq(_data_requests(u, lambda: _read(top + '/mnt/up')), {}, 'by the kernel alone')
        with open(top + '/mnt/up', 'ab') as f:
            f.write(b'+')
        fd = os.open(top + '/mnt/low', os.O_RDONLY)
        m = mmap.mmap(fd, 5, prot=mmap.PROT_READ)
        t.eq(m[:5], b'lower')
        m.close()
        os.close(fd)
        t.eq((_read(top + '/mnt/up'), _read(u.m('up'))), (b'upper+', b'upper'))
    finally:
        k.umount(top + '/mnt')
    u.umount()


@test(**root)
def layers_on_a_stack(t):
    """A lower that is an overlay itself, or a mount of ours with passthrough, is read by requests: the log says it once."""
    _need(t)
    low, ovl = t.plain('low'), t.plain('ovl')
    tree.build(low, 'f a hello; f b world')
    k.mount('overlay', ovl, 'overlay', 0, 'lowerdir=%s:%s' % (low, t.plain('none')))
    try:
        u = t.union(lowers=[ovl], upper=False, name='on-overlay')
        u.mount(ON)
        t.eq([_read(u.m(n)) for n in 'abab'], [b'hello', b'world'] * 2)
        u.umount()
        said = u.log_text().splitlines()
        t.ok(len(said) == 1 and 'stacked' in said[0], said)
    finally:
        k.umount(ovl)
    first = t.union(lowers=[low], upper=False, name='first')
    first.mount(ON)
    second = t.union(lowers=[first.mnt], name='second')
    second.mount(ON)
    t.eq([_read(second.m(n)) for n in 'ab'], [b'hello', b'world'])
    tree.write(second.m('c'), 'new')
    t.eq(_data_requests(second, lambda: _read(second.m('c'))), {})
    second.umount()
    first.umount()


# ---- others

@test(**root)
def changed_below(t):
    """Others write to, replace and remove a layer's file that is open here."""
    for upper in (True, False):
        u = t.union(name='u%d' % upper, text='f keep x', upper=upper)
        at = u.upper if upper else u.lowers[0]
        tree.build(at, 'f f first; f g first; f h first')
        u.check_lowers = False
        _need(t)
        u.mount(ON)
        fds = [os.open(u.m(n), os.O_RDONLY) for n in 'fgh']
        t.eq([os.pread(fd, 9, 0) for fd in fds], [b'first'] * 3)
        tree.write(at + '/f', 'second!')
        tree.write(at + '/new', 'replaced')
        os.rename(at + '/new', at + '/g')
        os.unlink(at + '/h')
        t.run(t.binary, 'ctl', u.mnt, 'sync')
        t.eq([os.pread(fd, 9, 0) for fd in fds], [b'second!', b'first', b'first'], 'open before')
        t.eq((_read(u.m('f')), _read(u.m('g')), os.path.exists(u.m('h'))), (b'second!', b'replaced', False))
        t.eq((os.stat(u.m('f')).st_size, os.stat(u.m('g')).st_size), (7, 8))
        if upper:
            w = os.open(u.m('f'), os.O_WRONLY)
            os.pwrite(w, b'S', 0)
            tree.append(at + '/f', '-and-others')
            t.eq(os.stat(u.m('f')).st_size, 18, 'who writes here, and others')
            os.close(w)
            t.run(t.binary, 'ctl', u.mnt, 'sync')
            t.eq((os.stat(u.m('f')).st_size, _read(u.m('f'))), (18, b'Second!-and-others'))
        for fd in fds:
            os.close(fd)
        u.umount()


@test(alone=True, **root)
def own_writes_are_no_news(t):
    """What clients write by themselves is not taken for a change by others, whom the kernel would be told of."""
    u = _mounted(t, '; '.join('f x%d' % i for i in range(30)))
    os.listdir(u.mnt)
    [os.lstat(u.m('x%d' % i)) for i in range(30)]
    before = _status(t, u)['watches']['changes']
    fd = os.open(u.m('new'), os.O_WRONLY | os.O_CREAT)

    def write():
        for i in range(300):
            os.write(fd, b'x' * 1000)
            os.lstat(u.m('x%d' % (i % 30)))
    # The file itself is asked for, before it is written to.
    got = u.requests_during(write, quiet=('FORGET', 'BATCH_FORGET', 'GETXATTR', 'IOCTL', 'INTERRUPT'))
    t.ok(set(got) <= {'GETATTR'} and got.get('GETATTR', 0) < 5, 'others stay cached: %s' % got)
    os.close(fd)
    t.eq(os.stat(u.m('new')).st_size, 300000)
    t.ok(_status(t, u)['watches']['changes'] >= before)
    u.umount()


@test(**root)
def killed(t):
    """kill -9 of the daemon while files are open: what was written is in the upper, and nothing hangs."""
    u = _mounted(t, 'f a lower')
    fd = os.open(u.m('f'), os.O_RDWR | os.O_CREAT)
    os.write(fd, b'written')
    m = mmap.mmap(fd, 7)
    m[:3] = b'WRI'
    r = os.open(u.m('a'), os.O_RDONLY)
    u.proc.kill()
    u.proc.wait()
    u.proc = None
    try:
        os.pread(r, 10, 0)
        os.pwrite(fd, b'x', 7)
    except OSError:
        pass
    m.close()
    os.close(fd)
    os.close(r)
    u.detach()
    t.eq(_read(u.up('f'))[:7], b'WRItten')
    u.mount(ON)
    t.eq(_read(u.m('f'))[:7], b'WRItten')
    u.umount()


@test(**root)
def unmounted_lazily(t):
    """Files that are open at `umount -l` stay usable, and the daemon ends with the last of them."""
    u = _mounted(t)
    fd = os.open(u.m('f'), os.O_RDWR | os.O_CREAT)
    os.write(fd, b'before')
    k.umount(u.mnt, k.MNT_DETACH)
    os.pwrite(fd, b'AFTER', 0)
    t.eq(os.pread(fd, 9, 0), b'AFTERe')
    os.close(fd)
    u.wait_end()
    t.eq(_read(u.up('f')), b'AFTERe')


@test(identities=('root',), filesystems=('ext4',))
def access_times(t):
    """Reading leaves a lower's alone, and with noatime the upper's."""
    old = 10**9 * 1000000000

    def times(u, opts):
        tree.write(u.m('f'), 'x')
        for p in (u.up('f'), u.low('low')):
            os.utime(p, ns=(old, old))
        _wait_released(u)
        _read(u.m('f')), _read(u.m('low'))
        return os.stat(u.up('f')).st_atime_ns != old, os.stat(u.low('low')).st_atime_ns != old
    _need(t)
    for opts, want in (((ON,), (True, False)), ((ON, 'noatime'), (False, False))):
        u = t.union(text='f low x', name=opts[-1].replace('=', ''))
        u.check_lowers = False
        u.mount(*opts)
        t.eq(times(u, opts), want, opts)
        u.umount()
    r = t.union(text='f low x', upper=False, name='ro')
    r.check_lowers = False
    os.utime(r.low('low'), ns=(old, old))
    r.mount(ON)
    _read(r.m('low'))
    t.eq(os.stat(r.low('low')).st_atime_ns, old)
    r.umount()


@test(**root)
def owners_and_modes(t):
    """Ids that are mapped, owners in an xattr, a file that its own owner may not read: as by requests."""
    _need(t)
    u = t.union(text='f low x', name='mapped')
    u.check_lowers = False
    u.mount(ON, 'uidmapping=0:1000:65536', 'gidmapping=0:1000:65536')

    def as_1000():
        with open(u.m('mine'), 'w') as f:
            f.write('data')
        return _read(u.m('mine'))
    os.chmod(u.m(), 0o777)
    t.eq(t.as_user(1000, as_1000), b'data')
    t.eq(os.stat(u.up('mine')).st_uid, 0)
    t.eq(_data_requests(u, lambda: _read(u.m('mine'))), {})
    u.umount()
    u = t.union(name='xattr')
    u.mount(ON, 'xattr_permissions=2')
    tree.write(u.m('f'), 'secret')
    os.chown(u.m('f'), 1234, 1234)
    os.chmod(u.m('f'), 0o600)
    t.fails(errno.EACCES, t.as_user, 1000, lambda: open(u.m('f')))
    t.eq(t.as_user(1234, lambda: _read(u.m('f'))), b'secret')
    fd = os.open(u.m('ro'), os.O_RDWR | os.O_CREAT, 0o444)
    os.write(fd, b'once')
    os.close(fd)
    t.eq(_read(u.m('ro')), b'once')
    u.umount()


@test(**root)
def metacopy_and_data_only(t):
    """Files whose data is elsewhere, where nothing is written: it is read there."""
    _need(t)
    first = t.mounted('f a lower-data', name='make')
    os.chmod(first.m('a'), 0o600)
    t.ok(first.is_metacopy('a'))
    first.umount()
    u = t.union(lowers=[first.upper, first.lowers[0]], upper=False, name='two')
    u.mount(ON)
    t.eq(_data_requests(u, lambda: t.eq(_read(u.m('a')), b'lower-data')), {})
    t.eq(stat.S_IMODE(os.stat(u.m('a')).st_mode), 0o600)
    u.umount()


@test(identities=('root',), filesystems=('ext4',), alone=True)
def idle(t):
    """No thread wakes up where nothing is asked, also while files are open."""
    u = _mounted(t, 'f a x', 'cache=auto')
    fds = [os.open(u.m('n%d' % i), os.O_RDWR | os.O_CREAT) for i in range(20)]
    [os.write(fd, b'x') for fd in fds]
    time.sleep(7)

    def switches():
        d = '/proc/%d/task' % u.daemon_pid()
        return {i: [l for l in open('%s/%s/status' % (d, i)) if '_switches' in l] for i in os.listdir(d)}
    before = switches()
    time.sleep(3)
    t.eq(switches(), before)
    [os.close(fd) for fd in fds]
    u.umount()
