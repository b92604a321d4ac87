# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon inherits from its starter: limits, ignored and blocked signals, timers. It serves on, or says so."""
import errno
import os
import resource
import signal
import subprocess
import time

from lib import k, test, tree
from lib.seccomp import refusing

KILLERS = ('SIGPIPE', 'SIGXFSZ', 'SIGXCPU', 'SIGALRM', 'SIGVTALRM', 'SIGPROF', 'SIGUSR2', 'SIGIO', 'SIGPWR', 'SIGTTIN',
           'SIGTTOU', 'SIGSTKFLT', 'SIGRTMIN', 'SIGRTMAX', 'SIGURG', 'SIGWINCH', 'SIGCHLD')


def _use(t, u):
    t.eq(tree.text(u.m('f')), 'hello')
    tree.write(u.m('new'), 'x')
    os.unlink(u.m('new'))
    t.eq(sorted(os.listdir(u.m('d'))), ['%03d' % i for i in range(100)])


LAYER = 'f f hello; ' + '; '.join('f d/%03d x' % i for i in range(100))


def _limit(what, soft, hard=None):
    def fn():
        resource.setrlimit(what, (soft, resource.getrlimit(what)[1] if hard is None else hard))
    return fn


@test()
def soft_limits_are_lifted(t):
    for name, soft in (('CPU', 1), ('FSIZE', 4096), ('NOFILE', 24), ('STACK', 65536), ('CORE', 0), ('MEMLOCK', 0),
                       ('DATA', 64 << 20), ('AS', 512 << 20), ('NPROC', 4 if t.root else 4000)):
        if name in ('AS', 'DATA') and t.slow > 1:
            continue                    # a sanitizer needs more before it begins
        u = t.union(text=LAYER, name=name)
        u.mount(preexec_fn=_limit(getattr(resource, 'RLIMIT_' + name), soft))
        tree.write(u.m('big'), b'x' * 100000)
        _use(t, u)
        with open('/proc/%d/limits' % u.daemon_pid()) as f:
            limits = f.read()
        t.ok('RLIMIT' not in u.log_text(), u.log_text())
        if name == 'CPU':
            t.ok([l for l in limits.split('\n') if l.startswith('Max cpu time') and 'unlimited' in l], limits)
        u.umount()


@test()
def hard_file_size(t):
    """What cannot be lifted: EFBIG for the writer beyond it, with a sentence at start; the daemon lives."""
    u = t.union(text=LAYER + '; f large ' + 'x' * 20000)
    u.mount(preexec_fn=_limit(resource.RLIMIT_FSIZE, 8192, 8192))
    lifted = 'RLIMIT_FSIZE' not in u.log_text()     # who may lift it has done so
    fd = os.open(u.m('new'), os.O_CREAT | os.O_WRONLY)
    os.pwrite(fd, b'x' * 8192, 0)
    if not lifted:
        if not t.passes:                            # there it is the writer's own limit that binds
            t.fails(errno.EFBIG, os.pwrite, fd, b'x', 8192)
        t.fails(errno.EFBIG, os.ftruncate, fd, 10000)
        t.fails(errno.EFBIG, tree.append, u.m('large'), 'y')
        t.eq(len(tree.read(u.m('large'))), 20000)
        t.ok('no file in this mount can grow' in u.log_text())
    os.close(fd)
    os.unlink(u.m('new'))
    _use(t, u)


@test()
def hard_processor_time(t):
    """It cannot be outlived: said at start."""
    u = t.union(text=LAYER)
    u.mount(preexec_fn=_limit(resource.RLIMIT_CPU, 60, 60))
    with open('/proc/%d/limits' % u.daemon_pid()) as f:
        bound = [l for l in f if l.startswith('Max cpu time') and 'unlimited' not in l]
    t.eq(bool(bound), 'RLIMIT_CPU (ulimit -t) cannot be lifted' in u.log_text(), u.log_text())
    _use(t, u)


@test()
def few_descriptors(t):
    """Too few: one sentence. Just enough: everything works, also with more files open than that."""
    u = t.union(text=LAYER)
    p = subprocess.run(u.command(('threads=2',), foreground=False), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, preexec_fn=_limit(resource.RLIMIT_NOFILE, 16, 16))
    t.ok(p.returncode == 1 and p.stdout.count('\n') == 1, p.stdout)
    t.ok('RLIMIT_NOFILE' in p.stdout or 'Too many open files' in p.stdout, p.stdout)
    t.eq(k.mounted_at(u.mnt), [])
    u.mount('threads=2', preexec_fn=_limit(resource.RLIMIT_NOFILE, 52, 52))
    files = [open(u.m('d/%03d' % i), 'a') for i in range(100)]
    for f in files:
        f.write('y')
        f.close()
    _use(t, u)
    t.eq(tree.text(u.m('d/099')), 'xy')


@test()
def signals_that_would_end_it(t):
    u = t.mounted(LAYER)
    pid = u.daemon_pid()
    for name in KILLERS:
        os.kill(pid, getattr(signal, name))
    time.sleep(0.2)
    _use(t, u)
    t.eq(u.proc.poll(), None)


@test()
def signals_of_the_starter(t):
    """Blocked or ignored ones, and a timer that is running: SIGTERM ends it all the same, others are as the starter has them."""
    def hostile():
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
        for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(s, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
    u = t.union(text=LAYER)
    u.mount(preexec_fn=hostile)
    for s in (signal.SIGHUP, signal.SIGINT):
        os.kill(u.daemon_pid(), s)
    time.sleep(0.4)
    _use(t, u)
    os.kill(u.daemon_pid(), signal.SIGTERM)
    u.wait_end()
    t.eq(k.mounted_at(u.mnt), [])
    u.mount()
    os.kill(u.daemon_pid(), signal.SIGQUIT)
    u.wait_end()
    t.eq(k.mounted_at(u.mnt), [])


@test(identities=('root', 'userns'))
def success_is_said_when_it_serves(t):
    """A call that every worker needs is refused: a sentence and no mount, not success and nobody there."""
    for call in ('eventfd2', 'epoll_create1'):
        u = t.union(text=LAYER, name=call)
        p = subprocess.run(u.command(('io_uring=off',), foreground=False), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=30 * t.slow,
                           preexec_fn=refusing(**{call: errno.EPERM}))
        t.eq((p.returncode, p.stdout), (1, 'fuse-unionfs: no thread can serve: Operation not permitted\n'))
        t.eq(k.mounted_at(u.mnt), [])


@test(identities=('root', 'user'), timeout=180)
def descriptors_are_given_back(t):
    """However high the limit: a walk over many layers leaves a few thousand open, a minute of quiet few; what
    is in use works on, and everything can be had again."""
    layers, dirs = 16, 600
    u = t.union(lowers=layers)
    for i in range(layers):
        for j in range(dirs):
            os.makedirs('%s/d%03d' % (u.lowers[i], j))
        tree.write('%s/d007/f%d' % (u.lowers[i], i), 'content')
    for j in range(200):
        tree.write('%s/gone%d' % (u.lowers[0], j), 'gone%d' % j)
    u.mount()
    count = lambda: len(os.listdir('/proc/%d/fd' % u.daemon_pid()))
    before = count()
    held = [os.open(u.m('gone%d' % j), os.O_RDWR) for j in range(200)]
    for j, fd in enumerate(held):
        os.unlink(u.m('gone%d' % j))
    inside = os.open(u.m('d007'), os.O_RDONLY)
    for _ in os.walk(u.mnt):
        pass
    t.ok(1000 < count() - before < 4096 + 500, '%d descriptors' % (count() - before))
    end = time.monotonic() + 75
    while count() - before > 128 + 200 and time.monotonic() < end:
        time.sleep(1)
    t.ok(count() - before <= 128 + 210, '%d descriptors after a minute' % (count() - before))
    for j, fd in enumerate(held):
        t.eq(os.pread(fd, 9, 0), b'gone%d' % j)
        os.close(fd)
    t.eq(len(os.listdir(inside)), layers)
    os.close(inside)
    for i in range(layers):
        t.eq(tree.text(u.m('d007/f%d' % i)), 'content')
    t.eq(len(os.listdir(u.mnt)), dirs)
    tree.write(u.m('d599/new'), 'x')
    os.rename(u.m('d599/new'), u.m('d598/new'))
    u.check_layers = False
