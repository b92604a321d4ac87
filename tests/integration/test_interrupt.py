# SPDX-License-Identifier: GPL-2.0-or-later
"""
A caller that is killed does not stay for the end of a copy, and leaves nothing; one that gets another signal notices
nothing. Copies between directories of one file system that has reflinks are over at once: there is nothing to kill.
"""
import ctypes
import mmap
import os
import random
import re
import signal
import subprocess
import time

from lib import k, test, tree

MIB = 1 << 20
HERE = os.path.dirname(os.path.realpath(__file__))
# Seconds from SIGKILL to the end of the process.
SOON = 0.3
# Of other tests' load; the issue's bound is checked where a test is alone.
BUSY = 10
WORKERS = 'threads=8'
NO_REFLINKS = ('ext4', 'tmpfs')


def fill(path, mib, seed=1):
    """Real data, which no file system makes a hole of."""
    block = random.Random(seed).randbytes(MIB)
    with open(path, 'wb') as f:
        for i in range(mib):
            f.write(i.to_bytes(8, 'little') + block[8:])


class Client:
    """Calls fn(*args) in a process of its own; what came of it: 'killed', 'done', or the exception."""

    def __init__(self, fn, *args):
        r, w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            said = 'done'
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.close(r)
                fn(*args)
            except BaseException as e:
                said = repr(e)
            os.write(w, said.encode())
            os._exit(0)
        os.close(w)
        self.said = r
        self.seconds, self.begin = None, time.monotonic()

    def wait(self):
        if self.seconds is None:
            _, status = os.waitpid(self.pid, 0)
            self.seconds = time.monotonic() - self.begin
            with os.fdopen(self.said, 'rb') as f:
                said = f.read().decode()
            self.result = 'killed' if os.WIFSIGNALED(status) and not said else said
        return self.result

    def kill(self, sig=signal.SIGKILL):
        """Seconds until it is gone."""
        self.begin = time.monotonic()
        os.kill(self.pid, sig)
        self.wait()
        return self.seconds


def write_first(path):
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b'X', 3)
    os.close(fd)


def write_mapped(path):
    """
    The kernel lets one write(2) or fsync(2) of a file in at a time, and close(2) waits for pages that are being written:
    who waits there cannot be killed. What comes from a mapping, with a change of attributes behind it, waits in the daemon.
    """
    fd = os.open(path, os.O_RDWR)
    m = mmap.mmap(fd, mmap.PAGESIZE)
    m[3] = ord('X')
    r = ctypes.CDLL(None, use_errno=True).sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(4096), 7)
    if r < 0:
        raise OSError(ctypes.get_errno(), 'sync_file_range')


def change_mode(path):
    os.chmod(path, 0o640)


def usage(u):
    """Staged files that the daemon holds (others it may keep open for later), and its memory in KiB."""
    pid, staged_fds = u.daemon_pid(), 0
    status = dict(line.split(':', 1) for line in open('/proc/%d/status' % pid) if ':' in line)
    for fd in os.listdir('/proc/%d/fd' % pid):
        try:
            path = '/proc/%d/fd/%s' % (pid, fd)
            # A file that was published is called so as well.
            staged_fds += bool(re.search(r'#\w+ \(deleted\)$', os.readlink(path))) and os.stat(path).st_nlink == 0
        except FileNotFoundError:
            pass
    return staged_fds, int(status['VmRSS'].split()[0])


def has_mark(u, n):
    """Of a metacopy file: what an abandoned fill has written may be there for another moment."""
    return u.t.ns + '.overlay.metacopy' in os.listxattr(u.up(n))


def wait_until(t, condition, what, seconds=10):
    end = time.monotonic() + seconds * t.slow
    while not condition():
        t.ok(time.monotonic() < end, what)
        time.sleep(0.005)


def in_copy(t, u, pid, states='SD'):
    """Its request is being served: it sleeps in the kernel, and the daemon is at work."""
    wait_until(t, lambda: open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()[0] in states + 'Z',
               'the client does not get to its request')


def staged(u):
    """But for the whiteout that all others are links of."""
    return [n for n in u.staged() if not tree.is_whiteout(os.path.join(u.work, 'work', n))]


@test(identities=('root',), filesystems=('ext4', 'tmpfs'), everywhere=True, timeout=150, alone=True)
def large(t):
    """1.5 GB: killed in the copy, in a wait for it, in a metacopy fill, early and late; what is visible is as before."""
    st = os.statvfs(t.dir)
    mib = min(1500, st.f_bavail * st.f_frsize // MIB // 3)
    if mib < 300:
        t.skip('too little room')
    u = t.union()
    fill(u.low('f'), mib)
    os.sync()
    u.mount(WORKERS)
    path, times = u.m('f'), []
    for late in (0.02, 0.1, 0.25):
        client = Client(write_first, path)
        in_copy(t, u, client.pid)
        time.sleep(late * mib / 1500)
        times.append(('copy', client.kill()))
        t.eq((client.result, os.listdir(u.upper), u.staged()), ('killed', [], []), 'after %.2f s' % late)
    before = os.lstat(path)
    os.chmod(path, 0o600)
    for late in (0.02, 0.1, 0.25):
        client = Client(write_first, path)
        in_copy(t, u, client.pid)
        time.sleep(late * mib / 1500)
        times.append(('fill', client.kill()))
        t.eq(client.result, 'killed')
        st = os.lstat(path)
        t.eq((st.st_mtime_ns, st.st_size), (before.st_mtime_ns, before.st_size))
    wait_until(t, lambda: os.stat(u.up('f')).st_blocks < 100, 'the room of an abandoned fill is not given back')
    t.ok(has_mark(u, 'f'), 'the mark is gone')
    # And then it works: by one who is not killed, while others who wait for it are.
    copying = Client(write_mapped, path)
    in_copy(t, u, copying.pid)
    time.sleep(0.1)
    waiting = Client(change_mode, path)
    in_copy(t, u, waiting.pid)
    time.sleep(0.1)
    times.append(('wait', waiting.kill()))
    t.ok(has_mark(u, 'f'), 'the copy was over too soon')
    t.eq((waiting.result, copying.wait()), ('killed', 'done'))
    with open(path, 'rb') as f, open(u.low('f'), 'rb') as g:
        a, b = f.read(MIB), g.read(MIB)
        t.eq(a[3:4] + a[4:], b'X' + b[4:])
        while a:
            a, b = f.read(MIB), g.read(MIB)
            t.ok(a == b, 'the copy differs')
    t.ok(max(s for _, s in times) < SOON * t.slow, 'seconds to die: %r' % times)


@test(filesystems=NO_REFLINKS, timeout=170)
def rounds(t):
    """200 times (or for a minute), at any moment: nothing visible, nothing staged, no descriptor, no memory."""
    u = t.union()
    rng = random.Random(5)
    fill(u.low('f'), 24)
    fill(u.low('g'), 72)
    whole = {n: tree.read(u.low(n)) for n in 'fg'}
    kinds = ('copy', 'fill', 'wait', 'copy')
    names = ['%s%d' % (kinds[i % 4], i) for i in range(200)]
    for n in names:
        os.link(u.low('g' if 'wait' in n else 'f'), u.low(n))
    u.mount(WORKERS, 'index=off')
    for n in names:
        os.stat(u.m(n))
    abandoned, start, done = {'copy': 0, 'fill': 0, 'wait': 0}, None, 0
    end = time.monotonic() + 60
    for i, n in enumerate(names):
        kind, path = kinds[i % 4], u.m(n)
        if kind == 'fill':
            os.chmod(path, 0o600)
        if kind == 'wait':
            copying = Client(write_mapped, path)
            in_copy(t, u, copying.pid, 'D')
        client = Client(change_mode if kind == 'wait' else write_first, path)
        time.sleep(rng.random() * 0.02)
        t.ok(client.kill() < BUSY * t.slow, '%s: dead after %.3f s' % (n, client.seconds))
        t.ok(client.result in ('killed', 'done'), '%s: %s' % (n, client.result))
        if kind == 'wait':
            abandoned[kind] += not os.path.exists(u.up(n))
            t.eq(copying.wait(), 'done', n)
            t.ok(tree.read(path)[4:] == whole['g'][4:], n + ': wrong data')
            os.unlink(path)
        elif not os.path.exists(u.up(n)) or (kind == 'fill' and has_mark(u, n)):
            t.eq(client.result, 'killed')
            abandoned[kind] += 1
        else:
            # Published in the last moment, and then complete.
            t.ok(tree.read(u.up(n))[4:] == whole['f'][4:], n + ': half a file in the upper')
        if i % 8 < 2:
            t.ok(tree.read(path)[4:] == whole['f'][4:], n + ': wrong data')
        t.eq(staged(u), [])
        done += 1
        if done > 60 and time.monotonic() > end:
            break
        if i == 40:
            time.sleep(0.1)
            start = usage(u)
    t.ok(min(abandoned.values()) >= max(done // 40, 1), 'of %d too few were killed in time: %r' % (done, abandoned))
    wait_until(t, lambda: usage(u)[0] == 0, 'abandoned files are still open')
    rss = usage(u)[1]
    t.ok(rss <= start[1] + 8192 * t.slow, 'memory: %d KiB, then %d' % (start[1], rss))


@test(filesystems=NO_REFLINKS, timeout=100)
def the_others_are_served(t):
    """Who copies is killed: one of those who wait takes it over, and nobody else fails."""
    u = t.union()
    for i in range(6):
        fill(u.low('f%d' % i), 96, i)
    u.mount(WORKERS)
    for i in range(6):
        path = u.m('f%d' % i)
        clients = [Client(write_first, path)]
        in_copy(t, u, clients[0].pid)
        clients += [Client(write_first, path) for _ in range(3)]
        time.sleep(0.005)
        t.ok(clients[i % 2].kill() < BUSY * t.slow, 'dead after %.3f s' % clients[i % 2].seconds)
        for n, c in enumerate(clients):
            t.ok(c.wait() == 'done' or n == i % 2, 'client %d: %s' % (n, c.result))
        want = tree.read(u.low('f%d' % i))
        t.ok(tree.read(path) == want[:3] + b'X' + want[4:], 'data')


def _truncate(u, n):
    os.truncate(u.m(n), 95 * MIB)


def _rename(u, n):
    os.rename(u.m(n), u.m(n + '-moved'))


def _link(u, n):
    os.link(u.m(n), u.m(n + '-link'))


def _chmod(u, n):
    os.chmod(u.m(n), 0o4711)


def _setxattr(u, n):
    os.setxattr(u.m(n), 'user.k', b'v')


CHANGES = (_truncate, _rename, _link, _chmod, _setxattr)


@test(filesystems=NO_REFLINKS, timeout=100)
def before_or_after(t):
    """A change that begins with a copy, of a caller that is killed: it has happened, or it has not."""
    u = t.union()
    for change in CHANGES:
        fill(u.low(change.__name__), 96)
    u.mount(WORKERS, 'metacopy=off')
    abandoned = 0
    for change in CHANGES:
        n = change.__name__
        data = tree.read(u.low(n))
        before = tree.describe(u.m(n), content=False)
        for i in range(4):
            client = Client(change, u, n)
            in_copy(t, u, client.pid)
            time.sleep(0.004 * i)
            t.ok(client.kill() < BUSY * t.slow, '%s: dead after %.3f s' % (n, client.seconds))
            if os.path.exists(u.up(n)) or client.result == 'done' or not os.path.exists(u.m(n)):
                break
            abandoned += 1
            t.eq(sorted(x for x in os.listdir(u.mnt) if x.startswith(n)), [n])
            t.eq(tree.describe(u.m(n), content=False), before, n)
            t.ok(tree.read(u.m(n)) == data, n)
    t.ok(abandoned >= 3, 'only %d were killed in time' % abandoned)


@test(filesystems=('tmpfs',), timeout=100)
def copy_range_and_allocation(t):
    """copy_file_range and fallocate of much in one call."""
    u = t.mounted('', WORKERS)
    fill(u.m('src'), 256)
    tree.write(u.m('dst'), '')

    def copy():
        with open(u.m('src'), 'rb') as a, open(u.m('dst'), 'r+b') as b:
            os.copy_file_range(a.fileno(), b.fileno(), 256 * MIB)

    def allocate():
        with open(u.m('dst'), 'r+b') as f:
            k.fallocate(f.fileno(), 0, 0, 512 * MIB)

    for fn, size in ((copy, 256 * MIB), (allocate, 512 * MIB)):
        os.truncate(u.m('dst'), 0)
        client = Client(fn)
        in_copy(t, u, client.pid)
        time.sleep(0.01)
        t.ok(client.kill() < BUSY * t.slow, '%s: dead after %.3f s' % (fn.__name__, client.seconds))
        st = os.stat(u.m('dst'))
        if client.result == 'killed' and fn is allocate:
            t.ok(st.st_size in (0, size), 'size %d' % st.st_size)
            t.ok(st.st_size == size or st.st_blocks < 8, 'the room is not given back: %d' % st.st_blocks)
        os.truncate(u.m('dst'), 0)
        fn()
        t.eq(os.stat(u.m('dst')).st_size, size, fn.__name__)
    os.truncate(u.m('dst'), 0)
    copy()
    t.ok(tree.read(u.m('dst')) == tree.read(u.m('src')), 'copied data')


@test(timeout=100, needs=('gcc',))
def other_signals_change_nothing(t):
    """SIGALRM each 60 us, with SA_RESTART and without, while files are copied up, filled, written and read."""
    program = t.dir + '/interrupted'
    t.run('gcc', '-O2', '-o', program, HERE + '/lib/interrupted.c')
    size, files = 6 * MIB + 17, 3
    data = bytes((i * 7 + i // 256) & 255 for i in range(1 << 16))
    whole = b''.join(bytes(((i * 7) + (at + i) // 256 + at * 7) & 255 for i in range(256))
                     for at in range(0, size, 256))[:size]
    t.eq(whole[:1 << 16], data)
    u = t.union()
    names = {r: ['%d-%d' % (r, i) for i in range(files)] for r in (0, 1)}
    for n in names[0] + names[1]:
        tree.write(u.low(n), whole)
    u.mount(WORKERS)
    for n in names[0][:1] + names[1][:1]:
        os.chmod(u.m(n), 0o600)         # a metacopy file where that can be
    running = [subprocess.Popen([program, str(r), u.mnt, str(size)] + names[r], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for r in (0, 1)]
    for p in running:
        said, _ = p.communicate()
        t.eq(p.returncode, 0, said)
        t.ok(int(said) > 500, 'only %s signals' % said)
    t.ok(u.requests().get('INTERRUPT', 0) > 5, 'the kernel told of no signal')
    want = b''.join(bytes((i * 7 + 1 + (at + i) // 256 + at * 7) & 255 for i in range(256))
                    for at in range(0, size, 256))[:size]
    for n in names[0] + names[1]:
        t.ok(tree.read(u.m(n)) == want, 'data of ' + n)
        t.ok(tree.read(u.up(n)) == want, 'data of %s in the upper' % n)


@test(filesystems=NO_REFLINKS, timeout=100)
def killed_after_another_signal(t):
    """The kernel says INTERRUPT once, at the first signal, and nothing of the fatal one that follows."""
    u = t.union()
    fill(u.low('f'), 400)
    u.mount(WORKERS)

    def client():
        signal.signal(signal.SIGUSR1, lambda *a: None)
        write_first(u.m('f'))

    c = Client(client)
    in_copy(t, u, c.pid)
    time.sleep(0.02)
    os.kill(c.pid, signal.SIGUSR1)
    time.sleep(0.04)
    t.ok(os.waitpid(c.pid, os.WNOHANG)[0] == 0, 'over too soon to tell')
    t.ok(c.kill() < BUSY * t.slow, 'dead after %.3f s' % c.seconds)
    t.eq(c.result, 'killed')
    t.eq(os.listdir(u.upper), [])
    # Others kill as well, where nobody handles them.
    c = Client(write_first, u.m('f'))
    in_copy(t, u, c.pid)
    time.sleep(0.03)
    t.ok(c.kill(signal.SIGTERM) < BUSY * t.slow, 'dead after %.3f s' % c.seconds)
    t.eq((c.result, os.listdir(u.upper)), ('killed', []))


@test(filesystems=NO_REFLINKS, timeout=60, needs=('gcc',))
def slow_traces(t):
    """The caller does not stay for the removal of what its copy left, whoever brings requests; the next one waits for it."""
    if t.slow != 1:
        t.skip('a sanitizer is to be loaded first')
    lib = t.dir + '/slow-punch.so'
    t.run('gcc', '-shared', '-fPIC', '-o', lib, HERE + '/lib/slow-punch.c', '-ldl')
    u = t.union()
    fill(u.low('f'), 300)
    u.mount(WORKERS, 'metacopy=on,redirect_dir=on', env=dict(os.environ, LD_PRELOAD=lib))
    os.chmod(u.m('f'), 0o600)
    client = Client(write_first, u.m('f'))
    in_copy(t, u, client.pid)
    time.sleep(0.03)
    t.ok(client.kill() < 1.5, 'dead after %.3f s' % client.seconds)
    t.eq(client.result, 'killed')
    t.ok(has_mark(u, 'f'), 'it was over too soon')
    write_first(u.m('f'))
    want = tree.read(u.low('f'))
    t.ok(tree.read(u.m('f')) == want[:3] + b'X' + want[4:], 'data')
