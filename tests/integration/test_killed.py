# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of the daemon: nothing hangs, nothing is half there, and the next mount finds all in order."""
import errno
import glob
import os
import random
import subprocess
import time

from lib import k, test, tree
from lib.disk import Disk
from test_daemon import _wait


def _errno(fn, *args):
    try:
        fn(*args)
    except OSError as e:
        return e.errno
    return 0


@test()
def killed_daemon(t):
    """kill -9: ENOTCONN everywhere, umount works, and the next mount finds everything in order
    and cleans the work directory."""
    u = t.mounted('f f hello; f gone 1; f d/x 1; f big ' + 'x' * 1000)
    tree.append(u.m('f'), '!')
    os.unlink(u.m('gone'))
    tree.write(u.m('new'), 'new')
    fd = os.open(u.m('big'), os.O_RDWR)
    os.pwrite(fd, b'J', 0)
    u.proc.kill()
    u.proc.wait()
    u.proc = None
    _wait(t, lambda: _errno(os.stat, u.m('f')) != errno.ECONNABORTED, 'a ring is closed a moment later')
    t.fails(errno.ENOTCONN, os.stat, u.m('f'))
    t.fails(errno.ENOTCONN, os.pwrite, fd, b'K', 0)
    os.close(fd)
    u.detach()
    u.mount()
    t.eq(tree.names(u.mnt), ['big', 'd', 'f', 'new'])
    t.eq((tree.text(u.m('f')), tree.text(u.m('new')), tree.text(u.m('big'))[:2]), ('hello!', 'new', 'Jx'))
    t.eq([n for n in u.staged() if 'old' in n], [])


@test(timeout=120)
def killed_just_mounted(t):
    """kill -9 as soon as the mount is there, when the daemon has it asked for a file: no thread of the daemon may wait for an
    answer of its own, which nobody can end."""
    rng = random.Random(7)
    u = t.union(text='f f 1')
    for _ in range(150):
        proc = subprocess.Popen(u.command(()), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not k.mounted_at(u.mnt) and proc.poll() is None:
            pass
        end = time.monotonic() + rng.random() * 0.003 * t.slow
        while time.monotonic() < end:
            pass
        proc.kill()
        try:
            proc.wait(10 * t.slow)
        finally:
            u.detach()


@test(identities=('root',), timeout=60)
def killed_while_it_tells(t):
    """kill -9 while the kernel is being told of a name in a directory that a client has locked, who waits for an answer:
    the daemon ends, and so does the client."""
    if 'tsan' in t.run('ldd', t.binary, check=False):
        t.skip('the thread sanitizer cannot have threads with descriptors of their own')
    disk = Disk(t, ('mkfs.ext4', '-q', '-F'), 64 << 20)
    for name in ('upper', 'work'):
        os.mkdir(disk.at + '/' + name)
    u = t.union(text='f d/a 1; f d/c 3')
    u.upper, u.work, u.check_lowers = disk.at + '/upper', disk.at + '/work', False
    u.mount('io_uring=off')
    t.eq(tree.names(u.m('d')), ['a', 'c'])
    os.stat(u.m('d/a'))
    os.stat(u.m('d/c'))
    with disk.frozen():
        pid = os.fork()
        if pid == 0:
            try:
                os.rename(u.m('d/a'), u.m('d/b'))
            finally:
                os._exit(0)
        _wait(t, lambda: 'request_wait_answer' in tree.text('/proc/%d/stack' % pid), 'the client does not wait')
        os.unlink(u.low('d/c'))
        _wait(t, lambda: any('fuse_reverse_inval_entry' in tree.text(f) for f in
                             glob.glob('/proc/%d/task/*/stack' % u.proc.pid)), 'the kernel is not told')
        u.proc.kill()
        time.sleep(0.1 * t.slow)
    try:
        u.proc.wait(10 * t.slow)
    finally:
        u.detach()
    u.proc = None
    os.waitpid(pid, 0)
    k.umount(disk.at)


@test(timeout=120)
def killed_at_any_moment(t):
    """kill -9 in the middle of work, many times: each name is as before or after its operation,
    and the next mount leaves nothing in the work directory."""
    rng = random.Random(5)
    u = t.union(text='; '.join('f l%d %s; f d%d/x 1' % (i, 'old' * 3000, i) for i in range(30)))
    for round_ in range(12):
        u.mount()
        pid = os.fork()
        if pid == 0:
            try:
                for i in range(1000):
                    n = rng.randrange(30)
                    p = u.m('l%d' % n)
                    if i % 5 == 0:
                        tree.write(u.m('tmp'), 'new' * 3000)
                        os.rename(u.m('tmp'), p)
                    elif i % 5 == 1:
                        os.chmod(p, 0o600 + n)
                    elif i % 5 == 2:
                        os.unlink(p)
                        tree.write(u.m('tmp2'), 'new' * 3000)
                        os.rename(u.m('tmp2'), p)
                    elif i % 5 == 3:
                        t.sh('rm -rf d%d; mkdir d%d' % (n, n), cwd=u.mnt)
                    else:
                        tree.append(p, 'new')
            except BaseException:
                pass
            os._exit(0)
        time.sleep(0.02 + 0.01 * round_)
        u.kill()
        os.waitpid(pid, 0)
        u.mount()
        for n in os.listdir(u.mnt):
            p = u.m(n)
            if n[0] == 'l':
                body = tree.text(p).replace('new', '').replace('old', '')
                t.eq(body, '', n)
                t.ok(len(tree.read(p)) >= 9000, '%s has %d bytes' % (n, len(tree.read(p))))
            elif n[0] == 'd':
                t.ok(tree.names(p) in ([], ['x']))
        u.umount()
