# SPDX-License-Identifier: GPL-2.0-or-later
"""
Requests over io_uring: that they come that way, that nothing is lost where they cannot, and that nobody waits
for somebody else's.
"""
import errno
import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

from lib import k, test, uring
from lib.disk import Disk
from lib.seccomp import refusing

FIFREEZE, FITHAW = 0xc0045877, 0xc0045878


def _need(t):
    why = uring.why_not()
    if why:
        t.skip(why)
    p = subprocess.run([t.binary, '-o', 'lowerdir=/,io_uring=on', '/nowhere'], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    if 'liburing' in p.stdout:
        t.skip('built without liburing')


def _transport(t, u):
    return json.loads(t.run(t.binary, 'ctl', u.mnt, 'status', '--json'))['daemon']['transport']


def _tasks(pid):
    return ['/proc/%d/task/%s' % (pid, i) for i in os.listdir('/proc/%d/task' % pid)]


@test(prepare=uring.switch_on)
def is_used(t):
    _need(t)
    u = t.mounted('f a hello; d dir; f dir/b', 'io_uring=on')
    t.eq(_transport(t, u), 'io_uring')
    end = time.monotonic() + 5 * t.slow         # said after the mount is there
    while 'requests come over io_uring' not in u.log_text(transport=True) and time.monotonic() < end:
        time.sleep(0.05)
    t.ok('requests come over io_uring' in u.log_text(transport=True), 'said in the log')
    t.eq(open(u.m('a')).read(), 'hello')
    data = os.urandom(3 << 20)
    with open(u.m('dir/big'), 'wb') as f:
        f.write(data)
    t.eq(open(u.up('dir/big'), 'rb').read() == data, True, 'a large file')
    os.mkdir(u.m('many'))
    for i in range(300):
        open(u.m('many/%d' % i), 'w').close()
    t.eq(len(os.listdir(u.m('many'))), 300)
    os.setxattr(u.m('a'), 'user.large', data[:3000])
    t.eq(os.getxattr(u.m('a'), 'user.large'), data[:3000])
    u.umount()


@test(prepare=uring.switch_on)
def off(t):
    u = t.mounted('f a', 'io_uring=off')
    t.eq(_transport(t, u), '/dev/fuse')
    t.eq(u.log_text(transport=True), '', 'nothing is said')
    u.umount()


@test(identities=('root', 'userns'), prepare=uring.switch_on)
def forbidden(t):
    """A sandbox refuses it: requests come over /dev/fuse, or the mount fails with a sentence."""
    _need(t)
    no = dict(preexec_fn=refusing(io_uring_setup=errno.EPERM))
    u = t.union(text='f a hello')
    u.mount('io_uring=auto', **no)
    t.eq(open(u.m('a')).read(), 'hello')
    t.eq(_transport(t, u), '/dev/fuse')
    u.umount()
    p = subprocess.run(u.command(('io_uring=on',), foreground=False), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **no)
    t.eq(p.returncode, 1)
    t.ok(p.stdout.startswith('fuse-unionfs: io_uring=on: io_uring_setup: ') and p.stdout.count('\n') == 1, p.stdout)
    t.ok(not k.mounted_at(u.mnt), 'nothing is left')


@test(prepare=uring.switch_on)
def idle(t):
    """No thread wakes up where nothing is asked."""
    _need(t)
    if t.slow != 1:
        t.skip('a sanitizer has a thread of its own')
    u = t.mounted('; '.join('f f%d' % i for i in range(50)), 'io_uring=on', 'cache=immutable')
    with open(u.m('big'), 'wb') as f:
        f.write(bytes(4 << 20))
    for i in range(50):
        os.unlink(u.m('f%d' % i))
    time.sleep(6)

    def switches():
        return {task: re.findall(r'_switches:\t(\d+)', open(task + '/status').read())
                for task in _tasks(u.daemon_pid())}
    before = switches()
    time.sleep(3)
    t.eq(switches(), before)
    u.umount()


def _moves():
    return int(re.search(r'nr_migrations +: +(\d+)', open('/proc/thread-self/sched').read()).group(1))


@test(identities=('root',), filesystems=('tmpfs',), prepare=uring.switch_on, alone=True)
def callers_stay(t):
    """Who waits for an answer is not moved to an idle processor: there the next request would have to wake everybody."""
    _need(t)
    if not os.path.exists('/proc/thread-self/sched'):
        t.skip('no /proc/PID/sched')
    u = t.mounted('f a', 'io_uring=on')
    fd = os.open(u.m('a'), os.O_RDWR)
    for _ in range(5):                          # somebody else's work may move it
        begin = _moves()
        for i in range(3000):
            os.pwrite(fd, b'x', i)
        moves = _moves() - begin
        if moves < 60:
            break
    t.ok(moves < 60, '%d times in 3000 requests' % moves)
    pid = u.daemon_pid()
    time.sleep(0.2)
    t.eq({os.sched_getscheduler(int(os.path.basename(task))) for task in _tasks(pid)}, {os.SCHED_OTHER})
    os.close(fd)
    u.umount()


def _on_cpu_0():
    os.sched_setaffinity(0, {0})


@test(identities=('root',), filesystems=('tmpfs',), prepare=uring.switch_on, needs=('mkfs.ext4',), alone=True)
def nobody_waits_for_others(t):
    """An upper that stands still: who needs it waits, whoever else asks on the same processor is served."""
    _need(t)
    disk = Disk(t, ('mkfs.ext4', '-q'), 64 << 20)
    u = t.union(text='; '.join('f dir%d/f%d' % (i, i) for i in range(100)))
    u.upper, u.work = disk.at + '/upper', disk.at + '/work'
    os.mkdir(u.upper)
    os.mkdir(u.work)
    u.mount('io_uring=on')
    made = []

    def make(i):
        _on_cpu_0()
        os.close(os.open(u.m('new%d' % i), os.O_CREAT | os.O_WRONLY))
        made.append(i)

    for i in range(4):                          # names in the upper are known to be missing
        open(u.m('old%d' % i), 'w').close()
    fd = os.open(disk.at, os.O_RDONLY)
    fcntl.ioctl(fd, FIFREEZE, 0)
    try:
        # Not in the same directory, whose lock the caller has.
        threads = [threading.Thread(target=_chmod, args=(u.m('dir%d/f%d' % (i, i)), made)) for i in range(14)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        begin = time.monotonic()
        p = subprocess.run(['python3', '-c', 'import os\nfor i in range(20, 100): os.stat("%s/dir%%d" %% i)' % u.mnt],
                           preexec_fn=_on_cpu_0, timeout=20)
        took = time.monotonic() - begin
        t.eq(p.returncode, 0)
        t.ok(took < 2 * t.slow, 'it took %.1f s' % took)
        t.eq(made, [], 'the others wait')
    finally:
        fcntl.ioctl(fd, FITHAW, 0)
        os.close(fd)
    for thread in threads:
        thread.join()
    t.eq(len(made), 14)
    u.umount()
    k.umount(disk.at)


BURST = '''
import os, sys
os.read(0, 1)
if sys.argv[1] == 'chmod':
    os.chmod(sys.argv[2], 0o600)
else:
    os.stat(sys.argv[2])
'''


@test(identities=('root',), filesystems=('tmpfs',), prepare=uring.switch_on, needs=('mkfs.ext4',), alone=True)
def more_at_once_than_entries(t):
    """More requests of one processor than it has entries before anybody gets to the first: none is forgotten."""
    _need(t)
    disk = Disk(t, ('mkfs.ext4', '-q'), 64 << 20)
    u = t.union(text='; '.join('f dir%d/f%d' % (i, i) for i in range(40)))
    u.upper, u.work = disk.at + '/upper', disk.at + '/work'
    os.mkdir(u.upper)
    os.mkdir(u.work)
    u.mount('io_uring=on')
    for i in range(20):
        os.stat(u.m('dir%d/f%d' % (i, i)))
    tasks = [int(os.path.basename(task)) for task in _tasks(u.daemon_pid())]
    for task in tasks:                          # it is to come last
        os.sched_setaffinity(task, {0})
        os.sched_setscheduler(task, os.SCHED_IDLE, os.sched_param(0))
    fd = os.open(disk.at, os.O_RDONLY)
    r, w = os.pipe()
    jobs = [subprocess.Popen(['python3', '-c', BURST, 'chmod' if i < 20 else 'stat', u.m('dir%d/f%d' % (i, i) if i < 20 else 'dir%d' % i)],
                             stdin=r, preexec_fn=_on_cpu_0) for i in range(30)]
    time.sleep(3 * t.slow)
    fcntl.ioctl(fd, FIFREEZE, 0)
    try:
        os.write(w, b'x' * 30)
        time.sleep(1 * t.slow)
        end = time.monotonic() + 10 * t.slow
        while any(job.poll() is None for job in jobs[20:]) and time.monotonic() < end:
            # Those as well that have been started meanwhile: on a busy processor they would not run at all.
            for task in _tasks(u.daemon_pid()):
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setscheduler(int(os.path.basename(task)), os.SCHED_OTHER, os.sched_param(0))
            time.sleep(0.05)
        t.eq([job.poll() for job in jobs[20:]], [0] * 10)
        t.eq([job.poll() for job in jobs[:20]], [None] * 20)
    finally:
        fcntl.ioctl(fd, FITHAW, 0)
        os.close(fd)
    t.eq([job.wait() for job in jobs], [0] * 30)
    u.umount()
    k.umount(disk.at)


def _chmod(path, made):
    _on_cpu_0()
    os.chmod(path, 0o600)
    made.append(path)


STORM = '''
import os, signal, sys, time
signal.signal(signal.SIGALRM, lambda *a: None)
signal.setitimer(signal.ITIMER_REAL, 6e-5, 6e-5)
end = time.monotonic() + float(sys.argv[2])
os.chdir(sys.argv[1])
n = 0
while time.monotonic() < end:
    name = 'x%d-%d' % (os.getpid(), n)
    fd = os.open(name, os.O_CREAT | os.O_RDWR, 0o644)
    os.write(fd, b'some data')
    os.fsync(fd)
    assert os.pread(fd, 100, 0) == b'some data'
    os.close(fd)
    assert not os.path.exists('missing-' + name)
    os.rename(name, name + 'y')
    os.unlink(name + 'y')
    n += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(n)
'''


@test(timeout=90, prepare=uring.switch_on)
def interrupts(t):
    """Callers with a signal every 60 us: the kernel asks to interrupt nearly every request."""
    _need(t)
    u = t.mounted('f a', 'io_uring=on')
    jobs = [subprocess.Popen(['python3', '-c', STORM, u.mnt, '5'], stdout=subprocess.PIPE, text=True)
            for _ in range(3)]
    for job in jobs:
        out, _ = job.communicate(timeout=60)
        t.eq(job.returncode, 0)
        t.ok(int(out) > 10, 'rounds: ' + out)
    t.eq(sorted(os.listdir(u.mnt)), ['a'])
    # Six that are none of the queues'; a client has one request at a time.
    n = len(_tasks(u.daemon_pid()))
    # ... and where opening is asked for, a RELEASE beside it.
    t.ok(n <= 6 + (6 if t.passes else 4) * os.cpu_count(), '%d threads for three clients' % n)
    u.umount()


BUSY = '''
import os, sys
os.chdir(sys.argv[1])
print('in', flush=True)
i = 0
try:
    while True:
        i += 1
        name = 'b%d-%d' % (os.getpid(), i)
        with open(name, 'w') as f:
            f.write('x' * 100)
        os.stat(name)
        os.path.exists('m' + name)
        os.unlink(name)
except OSError:
    pass
'''


@test(timeout=120, prepare=uring.switch_on)
def ends(t):
    """Requests in hand and threads waiting: each way to end ends all of them."""
    _need(t)
    for how in ('term', 'lazy', 'kill', 'abort'):
        if how == 'abort' and t.identity != 'root':
            continue
        u = t.mounted('f a', 'io_uring=on', name=how)
        jobs = [subprocess.Popen(['python3', '-c', BUSY, u.mnt], stdout=subprocess.PIPE) for _ in range(4)]
        t.eq([job.stdout.readline() for job in jobs], [b'in\n'] * 4)
        time.sleep(0.3)
        if how == 'term':
            u.proc.send_signal(signal.SIGTERM)
        elif how == 'kill':
            u.kill()
        elif how == 'lazy':
            u.detach()
        else:
            _abort(t, u)
        time.sleep(0.3)
        if how in ('term', 'lazy'):             # they go on while they are in there
            t.eq([job.poll() for job in jobs], [None] * 4)
            for job in jobs:
                job.kill()
        for job in jobs:
            job.wait(20)
        if how == 'abort':
            u.wait_end()
            u.detach()
        elif how != 'kill':
            u.wait_end()


def _abort(t, u):
    control = t.dir + '/fusectl'
    os.mkdir(control)
    t.run('mount', '-t', 'fusectl', 'none', control)
    with open('%s/%d/abort' % (control, os.minor(os.stat(u.mnt).st_dev)), 'w') as f:
        f.write('1')
    k.umount(control)
