# SPDX-License-Identifier: GPL-2.0-or-later
"""`fuse-unionfs ctl`: what it says and does, and to whom."""
import errno
import fcntl
import json
import os
import signal
import struct
import subprocess
import threading
import time

from lib import k, test, tree

HEAD = struct.Struct('=IIQQII')         # util/ctl-wire.h
SIZE = 4096
IOCTL = 3 << 30 | SIZE << 16 | 0xf5 << 8 | 0x75
DONE, FAILED, MISUSED, UNKNOWN, VERSIONS, LOST = range(6)


def _ctl(t, *args, status=0, **kw):
    """stdout, or with another @status the one line on stderr."""
    p = subprocess.run([t.binary, 'ctl', *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       errors='surrogateescape', timeout=30 * t.slow, **kw)
    t.eq(p.returncode, status, 'ctl %r: %s%s' % (args, p.stdout, p.stderr))
    if status == 0:
        t.eq(p.stderr, '')
        return p.stdout
    t.eq(p.stdout, '')
    t.ok(p.stderr.startswith('fuse-unionfs: ctl: ') and p.stderr.count('\n') == 1, p.stderr)
    return p.stderr


def _status(t, u):
    return json.loads(_ctl(t, u.mnt, 'status', '--json'))


def _raw(path, text=b'', version=1, token=0, offset=0, size=None):
    """(status, token, offset, total, text) of one ioctl."""
    buf = bytearray(HEAD.pack(version, 0, token, offset, len(text) if size is None else size, 0) + text)
    buf += bytes(SIZE - len(buf))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, IOCTL, buf)
    finally:
        os.close(fd)
    _, status, token, offset, n, total = HEAD.unpack_from(buf)
    return status, token, offset, total, bytes(buf[HEAD.size:HEAD.size + n])


@test()
def status(t):
    u = t.mounted('f f hello; f d/g 1', 'timeout=3600', 'index=off', lowers=2)
    os.chmod(u.m('f'), 0o600)
    with open(u.m('d/g'), 'a') as f:
        f.write('more')
    s = _status(t, u)
    t.eq(s['daemon']['pid'], u.daemon_pid())
    t.ok(s['daemon']['memory_bytes'] > 100000 and s['daemon']['uptime_seconds'] < 60 * t.slow, s)
    t.eq(s['daemon']['log'], 'info')
    t.eq([(l['kind'], l['path']) for l in s['layers']],
         [('upper', u.upper)] + [('lower', l) for l in u.lowers])
    t.ok('link' in s['layers'][0]['has'] + s['layers'][0]['lacks'], s)
    t.eq((s['options']['timeout'], s['options']['index'], s['options']['mount']), ('3600', 'off', 'rw'))
    t.eq(s['options']['userxattr'], '0' if t.root else '1')
    t.ok(s['state']['inodes'] >= 4 and s['state']['copyups'] >= 2, s)
    t.ok(s['requests']['SETATTR'] >= 1 and s['requests']['IOCTL'] >= 1, s)
    t.eq(s['requests']['total'], sum(n for name, n in s['requests'].items() if name != 'total'))
    plain = _ctl(t, u.mnt, 'status')
    t.ok(('\n  upper            %s\n' % u.upper) in plain and '\n  timeout          3600\n' in plain, plain)
    # From inside, and by another path.
    t.eq(json.loads(_ctl(t, '.', 'status', '--json', cwd=u.mnt))['daemon']['pid'], s['daemon']['pid'])


@test()
def status_of_many_layers(t):
    """Longer than one ioctl, with bytes that are no text."""
    u = t.union(lowers=0, upper=False)
    u.lowers = [os.path.join(u.root, 'l%03d-%s' % (i, 'x' * 150)) for i in range(60)]
    u.lowers[7] = os.path.join(u.root, 'odd "\n\x01\udcff\udcc3ä')
    for l in u.lowers:
        os.mkdir(l)
    u.put('f f 1')
    u.mount()
    s = _status(t, u)
    t.eq([l['path'] for l in s['layers']], u.lowers)
    t.eq({l['kind'] for l in s['layers']}, {'lower'})
    t.eq(s['options']['mount'], 'ro')
    t.eq(_ctl(t, u.mnt, 'status').count('\n  lower '), len(u.lowers))


@test()
def log(t):
    u = t.mounted('f f 1')
    t.eq(_ctl(t, u.mnt, 'log', 'debug'), '')
    os.lstat(u.m('missing')) if os.path.lexists(u.m('missing')) else None
    t.ok('LOOKUP(1)' in u.log_text(), u.log_text())
    t.eq(_status(t, u)['daemon']['log'], 'debug')
    _ctl(t, u.mnt, 'log', 'error')
    before = u.log_text()
    os.kill(u.daemon_pid(), signal.SIGUSR1)
    os.path.lexists(u.m('another'))
    time.sleep(0.3)
    t.eq(u.log_text()[len(before):].count('LOOKUP'), 0)
    _ctl(t, u.mnt, 'log', 'info')
    t.ok(u.requests()['LOOKUP'] >= 2)


@test()
def drop(t):
    u = t.mounted('f f hello; ' + '; '.join('f d/f%d x' % i for i in range(50)))

    def look():
        os.lstat(u.m('f'))
        os.listdir(u.m('d'))
        tree.read(u.m('f'))

    look()
    for i in range(50):
        tree.read(u.m('d/f%d' % i))
    look()
    t.eq(u.requests_during(look), {}, 'warm')
    with open(u.m('new'), 'w') as f:
        f.write('data')
        t.eq(_ctl(t, u.mnt, 'drop'), '')
        # Who has it open by passthrough may have written.
        t.eq(_status(t, u)['state']['descriptors'], 1 if t.passes else 0)
        f.write('and more')
    again = u.requests_during(look)
    t.ok(again.get('LOOKUP', 0) >= 2 and again.get('READ', 0) >= 1 and
         again.get('READDIRPLUS', 0) + again.get('READDIR', 0) >= 1, again)
    t.eq(tree.read(u.m('new')), b'dataand more')
    t.eq(tree.read(u.m('f')), b'hello')
    t.eq(len(os.listdir(u.m('d'))), 50)


@test(identities=('root', 'userns'))
def drop_unmounts_nothing(t):
    u = t.mounted('f d/e/f 1')
    k.mount('tmpfs', u.m('d/e'), 'tmpfs')
    try:
        with open(u.m('d/e/on-top'), 'w'):
            pass
        _ctl(t, u.mnt, 'drop')
        t.eq(os.listdir(u.m('d/e')), ['on-top'])
    finally:
        k.umount(u.m('d/e'))


@test()
def drop_while_a_directory_is_listed(t):
    """No listing ends before its end, and names stay what they are."""
    u = t.mounted('; '.join('f d/f%04d 1' % i for i in range(1000)))
    stop = threading.Event()
    bad = []

    def lister():
        while not stop.is_set():
            n = len(os.listdir(u.m('d')))
            if n != 1000:
                bad.append(n)

    threads = [threading.Thread(target=lister) for _ in range(3)]
    for th in threads:
        th.start()
    try:
        for _ in range(10):
            _ctl(t, u.mnt, 'drop')
    finally:
        stop.set()
        for th in threads:
            th.join()
    t.eq(bad, [])


@test()
def misuse(t):
    """One sentence each, 2 for what the command line has wrong, 1 for what cannot be done."""
    u = t.mounted('f d/f 1')
    for words, status, part in [
            ((), 2, 'no mountpoint'),
            ((u.mnt,), 2, 'no command given: one of status, log, sync, lower, drop'),
            (('', 'status'), 2, 'empty'),
            ((u.mnt, 'nonsense'), 2, "unknown command 'nonsense'"),
            ((u.mnt, 'status', '--xml'), 2, "'--xml'"),
            ((u.mnt, 'status', '--json', 'x'), 2, "'x'"),
            ((u.mnt, 'log'), 2, 'a word is missing'),
            ((u.mnt, 'log', 'loud'), 2, "'loud'"),
            ((u.mnt, 'log', 'x' * 5000), 2, 'too long'),
            ((u.mnt, 'drop', 'all'), 2, "'all'"),
            (('/proc', 'status'), 1, "'/proc' is no mount of fuse-unionfs"),
            ((u.upper, 'status'), 1, 'is no mount of fuse-unionfs'),
            ((u.m('d'), 'status'), 1, 'is a directory in a mount'),
            ((u.m('d/f'), 'status'), 1, 'Not a directory'),
            ((u.m('none'), 'status'), 1, 'No such file')]:
        said = _ctl(t, *words, status=status)
        t.ok(part in said, '%r: %s' % (words, said))
    t.ok('status [--json]' in _ctl(t, '--help'))


@test()
def raw(t):
    """What a client of another version, or a careless one, gets."""
    u = t.mounted('f d/f 1')
    t.eq(_raw(u.mnt, b'nonsense\0')[0], UNKNOWN)
    t.eq(_raw(u.mnt, b'status\0', version=2)[0], VERSIONS)
    t.eq(_raw(u.mnt, token=12345)[0], LOST)
    t.eq(_raw(u.mnt, b'')[0], MISUSED)
    t.eq(_raw(u.mnt, b'status')[0], MISUSED)
    t.eq(_raw(u.mnt, b'status\0', size=1 << 31)[0], MISUSED)
    t.eq(_raw(u.mnt, b'status\0')[0], DONE)
    t.fails(errno.ENOTTY, _raw, u.m('d'), b'status\0')


@test()
def parts_are_kept(t):
    """An answer can be fetched beside others, in any order but once."""
    u = t.union(lowers=60, upper=False)
    u.put('f f 1')
    u.mount()
    first = [_raw(u.mnt, b'status\0--json\0') for _ in range(3)]
    for status, token, offset, total, text in first[::-1]:
        t.eq((status, offset), (DONE, 0))
        while len(text) < total:
            s, more, offset, n, part = _raw(u.mnt, token=token, offset=len(text))
            t.eq((s, offset, n), (DONE, len(text), total))
            text += part
            t.eq(more, token if len(text) < total else 0)
        t.eq(len(json.loads(text)['layers']), 60)
        t.eq(_raw(u.mnt, token=token, offset=0)[0], LOST)


@test(identities=('root',))
def refused_to_others(t):
    u = t.mounted('f f 1')
    os.chmod(t.dir, 0o755)
    os.chmod(u.mnt, 0o755)

    def other():
        t.fails(errno.EPERM, _raw, u.mnt, b'status\0')
        for command in ('status', 'drop'):
            t.ok('only root and the user' in _ctl(t, u.mnt, command, status=1))

    t.as_user(12345, other)
    t.as_user(12345, other, gid=0)
    _status(t, u)


@test(identities=('root', 'user'))
def of_a_mount_with_allow_root(t):
    """The kernel then says who asks."""
    u = t.union(text='f f 1')
    if t.identity == 'user' and 'user_allow_other' not in open('/etc/fuse.conf').read().split('\n'):
        t.skip('no user_allow_other in /etc/fuse.conf')
    u.mount('allow_root')
    _status(t, u)


@test(needs=('unshare',))
def from_another_mount_namespace(t):
    u = t.mounted('f f 1')
    flags = '-Urm' if t.identity == 'user' else '-m'
    if subprocess.run(['unshare', flags, 'true'], stderr=subprocess.DEVNULL).returncode:
        t.skip('no namespaces')
    s = json.loads(t.run('unshare', flags, t.binary, 'ctl', u.mnt, 'status', '--json'))
    t.eq(s['daemon']['pid'], u.daemon_pid())
    t.run('unshare', flags, t.binary, 'ctl', u.mnt, 'drop')


def _stop(pid):
    """All threads of it have stopped."""
    os.kill(pid, signal.SIGSTOP)
    for task in os.listdir('/proc/%d/task' % pid):
        while ') T ' not in open('/proc/%d/task/%s/stat' % (pid, task)).read():
            time.sleep(0.01)


def _interrupt(t, u, command):
    """It waits, can be interrupted, and nobody who reads its output waits on."""
    p = subprocess.Popen([t.binary, 'ctl', u.mnt, command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    t.eq(p.poll(), None)
    p.send_signal(signal.SIGINT)
    t.eq(p.communicate(timeout=10 * t.slow), (b'', b''))
    t.eq(p.returncode, -signal.SIGINT)


@test()
def daemon_that_hangs(t):
    u = t.mounted('f f 1')
    _status(t, u)
    _stop(u.daemon_pid())
    try:
        _interrupt(t, u, 'status')
    finally:
        os.kill(u.daemon_pid(), signal.SIGCONT)
    _status(t, u)


@test()
def layer_that_hangs(t):
    """The daemon has taken a drop, for which the kernel waits for a lookup; it answers others all the same."""
    inner = t.mounted('f d/f 1; f known 1', name='inner')
    u = t.union(lowers=[inner.mnt], name='outer')
    u.check_lowers = False
    u.mount('threads=4')
    held = open(u.m('known'))   # its name is dropped, which takes the lock of its directory
    _stop(inner.daemon_pid())
    try:
        p = subprocess.Popen(['ls', u.m('d')], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(0.3)
        t.eq(p.poll(), None)
        _interrupt(t, u, 'drop')
        _status(t, u)
    finally:
        os.kill(inner.daemon_pid(), signal.SIGCONT)
    t.eq(p.communicate(timeout=20 * t.slow)[0], b'f\n')
    held.close()
    _ctl(t, u.mnt, 'drop')
    u.umount()


@test()
def daemon_that_is_gone(t):
    u = t.mounted('f f 1')
    u.proc.kill()
    u.proc.wait()
    u.proc = None
    t.ok('its daemon has ended' in _ctl(t, u.mnt, 'status', status=1))
    u.detach()


@test()
def mount_with_the_source_ctl(t):
    """mount.fuse3 runs PROG SOURCE MOUNTPOINT -o LIST."""
    u = t.union(text='f f 1')
    command = u.command(())
    u.proc = subprocess.Popen([t.binary, 'ctl', u.mnt, '-f'] + command[2:4])
    end = time.monotonic() + 20 * t.slow
    while not k.mounted_at(u.mnt) and time.monotonic() < end:
        time.sleep(0.02)
    t.eq(tree.read(u.m('f')), b'1')
    _status(t, u)


@test(timeout=120)
def many_at_once(t):
    """A hundred commands while the mount is busy; a second drop waits for the first."""
    u = t.mounted('; '.join('f d/f%d hello' % i for i in range(100)), 'threads=4')
    stop = threading.Event()
    errors = []

    def busy(n):
        d = u.m('busy%d' % n)
        i = 0
        try:
            os.mkdir(d)
            while not stop.is_set():
                i += 1
                with open(d + '/a', 'w') as f:
                    f.write('x' * 5000)
                    f.flush()
                    os.lseek(f.fileno(), 0, os.SEEK_DATA)       # answered by the helper
                os.rename(d + '/a', d + '/b')
                with open(u.m('d/f%d' % (i % 100)), 'a') as f:
                    f.write('.')
                os.listdir(u.m('d'))
                os.unlink(d + '/b')
        except Exception as e:
            errors.append(repr(e))

    threads = [threading.Thread(target=busy, args=(n,)) for n in range(4)]
    for th in threads:
        th.start()
    try:
        asked = []
        for i in range(100):
            words = (('status', '--json'), ('drop',), ('log', 'info'), ('status',))[i % 4]
            asked.append((words, subprocess.Popen([t.binary, 'ctl', u.mnt, *words], text=True,
                                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)))
        for words, p in asked:
            out = p.communicate(timeout=60 * t.slow)[0]
            t.eq(p.returncode, 0, out)
            if '--json' in words:
                t.eq(json.loads(out)['daemon']['pid'], u.daemon_pid())
    finally:
        stop.set()
        for th in threads:
            th.join()
    t.eq(errors, [])
    for i in range(100):
        t.eq(tree.read(u.m('d/f%d' % i)).rstrip(b'.'), b'hello')


@test()
def watches_of_removed_directories(t):
    """A directory that is gone is not watched any more, whoever removed it."""
    u = t.mounted('f d/f x')
    u.check_lowers = False
    before = _status(t, u)['watches']
    if not before['fanotify']:
        t.skip('no fanotify here: inotify forgets by itself')
    for i in range(50):
        os.mkdir(u.m('new'))
        tree.write(u.m('new/f'), '')
        os.listdir(u.m('new'))
        os.unlink(u.m('new/f'))
        os.rmdir(u.m('new'))
        os.mkdir(u.low('other'))
        _ctl(t, u.mnt, 'sync')
        os.listdir(u.m('other'))
        os.rmdir(u.low('other'))
        _ctl(t, u.mnt, 'sync')
        t.fails(errno.ENOENT, os.stat, u.m('other'))
    for _ in range(50 * t.slow):
        _ctl(t, u.mnt, 'sync')
        now = _status(t, u)['watches']
        if now['fanotify'] <= before['fanotify'] + 1:
            return
        time.sleep(0.1)
    t.ok(False, (before, now))
