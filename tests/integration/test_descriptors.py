# SPDX-License-Identifier: GPL-2.0-or-later
"""I/O belongs to the inode: old descriptors and mappings, unlinked files, modes that forbid."""
import errno
import mmap
import os
import resource
import signal
import stat
import subprocess
import time

from lib import k, test, tree


@test(everywhere=True)
def read_only_descriptor_sees_later_writes(t):
    """A descriptor and a mapping taken before a copy-up show what is written afterwards."""
    u = t.mounted('f a hello; f b ' + 'x' * 5000)
    for n in 'ab':
        fd = os.open(u.m(n), os.O_RDONLY)
        before = os.fstat(fd)
        shared = mmap.mmap(fd, 5, mmap.MAP_SHARED, mmap.PROT_READ)
        private = mmap.mmap(fd, 5, mmap.MAP_PRIVATE, mmap.PROT_READ)
        t.eq(shared[:], tree.read(u.low(n))[:5])
        w = os.open(u.m(n), os.O_RDWR)
        os.pwrite(w, b'JJ', 0)
        want = b'JJ' + tree.read(u.low(n))[2:5]
        t.eq(os.pread(fd, 5, 0), want)
        t.eq((shared[:], private[:]), (want, want), 'mappings')
        os.pwrite(w, b'end', 9000)
        t.eq((os.fstat(fd).st_size, os.pread(fd, 3, 9000)), (9003, b'end'))
        t.eq(os.fstat(fd).st_ino, before.st_ino)
        if t.root:
            k.drop_caches(3)
            t.eq((os.pread(fd, 5, 0), shared[:]), (want, want), 'after drop_caches')
        again = mmap.mmap(fd, 5, mmap.MAP_SHARED, mmap.PROT_READ)
        t.eq(again[:], want, 'a new mapping of the old descriptor')
        for m in (shared, private, again):
            m.close()
        os.close(fd)
        os.close(w)


@test(everywhere=True)
def unlinked_open_files(t):
    """Lower, copied-up and new files: usable by descriptor after unlink, st_nlink 0."""
    u = t.mounted('f low hello; f up hello; f ren hello; f over hello')
    tree.append(u.m('up'), '!')
    tree.write(u.m('new'), 'hello')
    tree.write(u.m('src'), 'src')
    fds = {n: os.open(u.m(n), os.O_RDWR) for n in ('low', 'up', 'new', 'ren', 'over')}
    ro = os.open(u.m('low'), os.O_RDONLY)
    for n in ('low', 'up', 'new'):
        os.unlink(u.m(n))
    os.rename(u.m('ren'), u.m('ren2'))
    os.rename(u.m('src'), u.m('over'))
    for n, fd in fds.items():
        t.eq(os.fstat(fd).st_nlink, 1 if n == 'ren' else 0, 'nlink of ' + n)
        t.eq(os.pread(fd, 5, 0), b'hello', n)
        os.pwrite(fd, b'J', 0)
        os.ftruncate(fd, 3)
        os.fchmod(fd, 0o600)
        os.utime(fd, ns=(1, 2))
        os.fsync(fd)
        t.eq(os.pread(fd, 9, 0), b'Jel', n)
        st = os.fstat(fd)
        t.eq((stat.S_IMODE(st.st_mode), st.st_size, st.st_mtime_ns), (0o600, 3, 2), n)
    t.eq(os.pread(ro, 9, 0), b'Jel', 'the other descriptor')
    t.eq(tree.names(u.mnt), ['over', 'ren2'])
    t.eq((tree.text(u.m('ren2')), tree.text(u.m('over'))), ('Jel', 'src'))
    if t.root:
        k.drop_caches(3)
        for n, fd in fds.items():
            t.eq(os.pread(fd, 9, 0), b'Jel', n + ' after drop_caches')
    for fd in list(fds.values()) + [ro]:
        os.close(fd)


@test()
def attributes_of_a_removed_lower_file(t):
    """fchmod, fchown, futimes, fsetxattr by descriptor of a lower file that was never copied up
    and is removed (where the kernel says EEXIST); nothing comes back."""
    u = t.mounted('f a hello; f b hello')
    fd, fd2 = os.open(u.m('a'), os.O_RDONLY), os.open(u.m('b'), os.O_RDWR)
    os.unlink(u.m('a'))
    os.unlink(u.m('b'))
    os.fchmod(fd, 0o600)
    os.fchown(fd, os.getuid(), os.getgid())
    os.utime(fd, ns=(5, 6))
    st = os.fstat(fd)
    t.eq((stat.S_IMODE(st.st_mode), st.st_mtime_ns, st.st_nlink), (0o600, 6, 0))
    os.write(fd2, b'J')
    t.eq(os.pread(fd2, 9, 0), b'Jello')
    t.eq(os.pread(fd, 9, 0), b'hello')
    t.eq(tree.names(u.mnt), [])
    os.close(fd)
    os.close(fd2)
    u.remount()
    t.eq(tree.names(u.mnt), [])
    t.eq(sorted(tree.names(u.upper)), ['a', 'b'])


@test(everywhere=True)
def created_read_only(t):
    """A file created 0444 is written, read back and synced through its descriptor; git does this."""
    u = t.mounted('d d')
    for flags in (os.O_WRONLY, os.O_RDWR):
        for mode in (0o444, 0o400, 0o000):
            p = u.m('d/f%o-%d' % (mode, flags))
            fd = os.open(p, os.O_CREAT | os.O_EXCL | flags, mode)
            for i in range(20):
                t.eq(os.write(fd, b'0123456789'), 10)
            if flags == os.O_RDWR:
                t.eq(os.pread(fd, 10, 100), b'0123456789')
            os.fsync(fd)
            os.ftruncate(fd, 150)
            t.eq(os.fstat(fd).st_size, 150)
            os.close(fd)
            t.eq(stat.S_IMODE(os.stat(p).st_mode), mode)
            t.eq(os.stat(u.up(os.path.relpath(p, u.mnt))).st_size, 150)


@test()
def mode_taken_away_while_open(t):
    """chmod to 0 and to read-only of an open file, lower and upper: its descriptors still work."""
    u = t.mounted('f low hello')
    tree.write(u.m('up'), 'hello')
    for n in ('low', 'up'):
        rw, ro = os.open(u.m(n), os.O_RDWR), os.open(u.m(n), os.O_RDONLY)
        for mode in (0o444, 0o200, 0):
            os.fchmod(rw, mode)
            os.pwrite(rw, b'J%d' % (mode & 7), 0)
            if t.root:
                k.drop_caches(1)
            t.eq(os.pread(ro, 5, 0), b'J%dllo' % (mode & 7), '%s %o' % (n, mode))
            os.fsync(rw)
            t.eq(stat.S_IMODE(os.fstat(ro).st_mode), mode)
        os.close(rw)
        os.close(ro)
        os.chmod(u.m(n), 0o644)


@test(identities=('user', 'userns'))
def write_only_files(t):
    """Existing 0200 files, lower and upper: open for writing, pwrite and truncate work for the
    owner; the mode is what it was; a file of mode 0 cannot be opened as on the plain fs."""
    def action(d):
        out = []
        for n in ('f', 'g', 'z'):
            try:
                fd = os.open(d + '/' + n, os.O_WRONLY)
                for _ in range(5):
                    os.pwrite(fd, b'JJ', 1)
                os.fsync(fd)
                os.ftruncate(fd, 4)
                os.pwrite(fd, b'end', 5000)
                os.close(fd)
                out.append('ok')
            except OSError as e:
                out.append(errno.errorcode[e.errno])
            try:
                os.close(os.open(d + '/' + n, os.O_RDONLY))
                out.append('readable')
            except OSError as e:
                out.append(errno.errorcode[e.errno])
            out.append(oct(os.stat(d + '/' + n).st_mode))
            os.chmod(d + '/' + n, 0o644)
            out.append(tree.read(d + '/' + n))
            os.chmod(d + '/' + n, 0o200 if n != 'z' else 0)
        return out
    # A lower file that the daemon may not read can only be replaced by one without its data.
    t.as_plain(action, 'f f hello 200; f g hello; m g 200; f z hello 000', lower_too=t.identity != 'user')


def _many_read_only(t, u, n):
    """Create n files of mode 0444 and write to all of them through their descriptors."""
    os.mkdir(u.m('many'))
    fds = []
    for i in range(n):
        fds.append(os.open(u.m('many/%d' % i), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o444 if i % 2 else 0))
        os.write(fds[-1], b'first %d' % i)
    for round_ in range(2):
        for i, fd in enumerate(fds):
            os.pwrite(fd, b'F', 0)
            os.fsync(fd) if i % 7 == 0 else None
    if t.root:
        k.drop_caches(1)
    for i, fd in enumerate(fds):
        t.eq(os.pread(fd, 20, 0), b'First %d' % i)
        os.close(fd)
    for i in range(n):
        st = os.stat(u.up('many/%d' % i))
        t.eq((stat.S_IMODE(st.st_mode), st.st_size), (0o444 if i % 2 else 0, 6 + len(str(i))), i)


def _limit(n):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))


@test(timeout=120)
def many_read_only_files_under_few_descriptors(t):
    """400 files created 0444 or 0 by a daemon that may open 256 (2.1): no EMFILE, no EACCES."""
    u = t.union(text='f x 1')
    u.mount(preexec_fn=_limit(256))
    _many_read_only(t, u, 400)


@test(timeout=120)
def many_unlinked_open_files_under_few_descriptors(t):
    """150 unlinked open files, and thousands of names beside, with 256 descriptors."""
    u = t.union(text='; '.join('f low%d low%d' % (i, i) for i in range(100)))
    u.mount(preexec_fn=_limit(256))
    fds = []
    for i in range(50):
        fds.append(os.open(u.m('f%d' % i), os.O_CREAT | os.O_RDWR))
        os.write(fds[-1], b'%d' % i)
        os.unlink(u.m('f%d' % i))
    for i in range(100):
        fds.append(os.open(u.m('low%d' % i), os.O_RDWR))
        os.unlink(u.m('low%d' % i))
    os.mkdir(u.m('d'))
    for i in range(1000):
        tree.write(u.m('d/%d' % i), str(i))
    for i in range(1000):
        t.eq(tree.text(u.m('d/%d' % i)), str(i))
    for i in range(50):
        t.eq(os.pread(fds[i], 9, 0), b'%d' % i)
    for i in range(100):
        t.eq(os.pread(fds[50 + i], 9, 0), b'low%d' % i)
    for fd in fds:
        os.close(fd)


@test(everywhere=True, timeout=120)
def wide_and_deep_listing_under_few_descriptors(t):
    """ls -lR of 2,000 files in 300 directories with 256 descriptors (2.4)."""
    u = t.union(lowers=3)
    for i in range(300):
        for j in range(7):
            u.put('f d%d/f%d %d' % (i, j, i * j), j % 3)
    u.put('; '.join('d deep/%s' % '/'.join('x' * j) for j in range(1, 60)))
    u.mount(preexec_fn=_limit(256))
    for _ in range(2):
        out = t.sh('ls -lR . | wc -l; find . -type f | xargs cat | wc -c', cwd=u.mnt)
        t.ok(int(out.split()[0]) > 2100, out)
        if t.root:
            k.drop_caches(3)
    fds = [os.open(u.m('d%d/f%d' % (i, i % 7)), os.O_RDONLY) for i in range(300)]
    for i, fd in enumerate(fds):
        t.eq(os.pread(fd, 20, 0), b'%d' % (i * (i % 7)))
        os.close(fd)


@test()
def mappings_outlive_descriptors(t):
    """mmap, close, unlink, and write through the mapping; the daemon's own descriptors do not
    grow with closed files."""
    u = t.mounted('; '.join('f f%d %s' % (i, 'x' * 4096) for i in range(40)))
    maps = []
    for i in range(40):
        fd = os.open(u.m('f%d' % i), os.O_RDWR)
        maps.append(mmap.mmap(fd, 4096))
        os.close(fd)
    for i, m in enumerate(maps):
        if i % 2:
            os.unlink(u.m('f%d' % i))
        m[:3] = b'%03d' % i
        m.flush()
    for i, m in enumerate(maps):
        t.eq(m[:4], b'%03dx' % i)
        if i % 2 == 0:
            t.eq(tree.read(u.m('f%d' % i))[:4], b'%03dx' % i)
        m.close()


@test(everywhere=True)
def append_from_two_processes(t):
    """Two O_APPEND writers never overwrite each other."""
    u = t.mounted('f log')
    pids = []
    for who in b'ab':
        pid = os.fork()
        if pid == 0:
            fd = os.open(u.m('log'), os.O_WRONLY | os.O_APPEND)
            for _ in range(300):
                os.write(fd, bytes([who]) * 10)
            os._exit(0)
        pids.append(pid)
    for p in pids:
        os.waitpid(p, 0)
    data = tree.read(u.m('log'))
    t.eq(len(data), 6000)
    t.eq({data[i:i + 10] for i in range(0, 6000, 10)}, {b'a' * 10, b'b' * 10})


@test(identities=('root', 'userns'))
def text_busy(t):
    """A running program cannot be written; a file just written can be executed at once; and the
    daemon does not keep it busy for an execution from the upper directory."""
    u = t.mounted('d d')
    t.sh('cp /bin/sleep lowsleep', cwd=u.low())
    u.check_lowers = False
    u.remount()
    p = subprocess.Popen([u.m('lowsleep'), '20'])
    time.sleep(0.1)
    t.fails(errno.ETXTBSY, os.open, u.m('lowsleep'), os.O_WRONLY)
    t.fails(errno.ETXTBSY, os.truncate, u.m('lowsleep'), 0)
    p.kill()
    p.wait()
    t.sh('cp lowsleep d/s; d/s 0; echo >> d/s; d/s 0', cwd=u.mnt)
    for i in range(100):
        try:
            subprocess.run([u.up('d/s'), '0'], check=True)
            break
        except OSError as e:
            t.eq(e.errno, errno.ETXTBSY)
            time.sleep(0.1)
    else:
        raise AssertionError('executing it from the upper stays ETXTBSY for 10 s after the write')


@test(timeout=90)
def interrupted_by_signals(t):
    """A client with a 60 us timer does all kinds of operations: nothing hangs, nothing is lost."""
    u = t.mounted('; '.join('f low%d hello' % i for i in range(50)))

    def busy():
        signal.signal(signal.SIGALRM, lambda *a: None)
        signal.setitimer(signal.ITIMER_REAL, 0.00006, 0.00006)
        end = time.monotonic() + 3
        n = 0
        while time.monotonic() < end or n < 50:
            p = u.m('n%d' % (n % 20))
            tree.write(p, 'x' * 5000)
            os.stat(p)
            tree.read(p)
            tree.append(u.m('low%d' % (n % 50)), '!')
            os.rename(p, p + 'r')
            os.listdir(u.mnt)
            os.unlink(p + 'r')
            n += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        return n
    n = t.child(busy)
    total = sum(os.stat(u.m('low%d' % i)).st_size - 5 for i in range(50))
    t.eq(total, n, 'appends')
    t.ok(len(os.listdir(u.mnt)) == 50)


@test()
def killed_client(t):
    """A client that is killed in the middle of large writes leaves a mount that works."""
    u = t.mounted('f a hello')
    for i in range(10):
        pid = os.fork()
        if pid == 0:
            fd = os.open(u.m('big'), os.O_CREAT | os.O_RDWR)
            while True:
                os.pwrite(fd, b'x' * (1 << 20), 0)
        time.sleep(0.03)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        tree.write(u.m('after%d' % i), 'ok')
        t.eq(tree.text(u.m('after%d' % i)), 'ok')
