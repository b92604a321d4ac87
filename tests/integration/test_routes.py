# SPDX-License-Identifier: GPL-2.0-or-later
"""Each way to a mount: fusermount3, by ourselves, mount(8) and its helper, a descriptor; and what is left after it."""
import errno
import os
import signal
import subprocess
import time

from lib import k, test, tree

WHERE = '/usr/local/bin'        # mount(8) and mount.fuse3 look there


def _programs(t, *names):
    """The program under @names where mount(8) finds it; in this test's namespace only."""
    k.mount('tmpfs', WHERE, 'tmpfs')
    os.environ['PATH'] = WHERE + ':' + os.environ['PATH']
    for n in names:
        os.symlink(t.binary, WHERE + '/' + n)


def _layers(u):
    return 'lowerdir=%s,upperdir=%s,workdir=%s' % (u.lowers[0], u.upper, u.work)


def _serving(mnt):
    """Pids of the daemons with @mnt among their words."""
    out = []
    for p in os.listdir('/proc'):
        if p.isdigit():
            try:
                with open('/proc/%s/cmdline' % p, 'rb') as f:
                    words = f.read().split(b'\0')
            except OSError:
                continue
            if os.fsencode(mnt) in words and b'/fuse-unionfs' in b'/' + words[0]:
                out.append(int(p))
    return out


def _until(t, cond, what, limit=10):
    end = time.monotonic() + limit * t.slow
    while not cond():
        t.ok(time.monotonic() < end, what)
        time.sleep(0.01)


def _use(t, u, where=None):
    """Read, write, delete; then unmount, after which nobody may be left and the layers be in order."""
    mnt = where or u.mnt
    t.eq(tree.text(mnt + '/f'), 'hello')
    tree.write(mnt + '/new', 'x')
    os.unlink(mnt + '/gone')
    t.eq(tree.names(mnt), ['f', 'new'])
    u.unmount_once()
    _until(t, lambda: not _serving(mnt), 'the daemon does not end')
    t.eq(k.mounted_at(mnt), [])
    t.eq(tree.text(u.up('new')), 'x')
    t.ok(tree.is_whiteout(u.up('gone')))
    t.run('rm', '-r', u.up('new'), u.up('gone'))
    u.check()


def _start(t, u, *opts, **kw):
    p = subprocess.run(u.command(opts, foreground=False), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=30 * t.slow, **kw)
    t.eq((p.returncode, p.stdout), (0, ''))


@test()
def directly(t):
    """As root and in a user namespace without fusermount3, as a plain user with it; and through
    mount.fuse3, which needs no rights of its own."""
    u = t.union(text='f f hello; f gone 1')
    env = dict(os.environ)
    if t.identity != 'user':
        env['PATH'] = '/nonexistent'
    _start(t, u, env=env)
    user = [m for m in k.mounted_at(u.mnt)][0]
    t.eq(user[2], 'fuse.fuse-unionfs')
    t.ok('user_id=%d' % os.getuid() in user[4] and 'default_permissions' in user[4], user[4])
    t.eq('allow_other' in user[4], t.identity != 'user')
    _use(t, u)
    t.need('mount.fuse3')
    t.run('mount.fuse3', 'source', u.mnt, '-t', 'fuse-unionfs', '-o', _layers(u))
    t.eq(k.mounted_at(u.mnt)[0][2:4], ('fuse.fuse-unionfs', 'source'))
    _use(t, u)


@test(identities=('root',), needs=('mount.fuse3',))
def mount_command(t):
    """The type that leads mount(8) to us, the old form with a `#`, and mount.fuse3 as containerd calls it for
    its own type fuse3.fuse-overlayfs (which mount(8) does not know)."""
    u = t.union(text='f f hello; f gone 1')
    _programs(t, 'fuse-unionfs', 'fuse-overlayfs')
    t.run('mount', '-t', 'fuse.fuse-unionfs', 'source', u.mnt, '-o', _layers(u))
    t.eq(k.mounted_at(u.mnt)[0][2:4], ('fuse.fuse-unionfs', 'source'))
    _use(t, u)
    for source in ('fuse-unionfs#source', 'fuse-unionfs#'):
        t.run('mount.fuse3', source, u.mnt, '-o', _layers(u))
        _use(t, u)
    t.run('mount.fuse3', 'overlay', u.mnt, '-o', _layers(u) + ',dev,suid', '-t', 'fuse-overlayfs')
    t.eq(k.mounted_at(u.mnt)[0][3], 'overlay')
    t.eq(tree.text(u.m('f')), 'hello')
    k.umount(u.mnt)
    p = subprocess.run(['mount.fuse3', 'source', u.mnt, '-t', 'fuse-unionfs', '-o', 'lowerdir=/nonexistent'],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    t.ok(p.returncode != 0 and '/nonexistent' in p.stdout, p.stdout)
    t.eq(k.mounted_at(u.mnt), [])


@test(identities=('root',), needs=('mount.fuse3',))
def mounted_by_the_helper(t):
    """mount.fuse3 -o drop_privileges, and with setuid=: it mounts, and we get the descriptor and nothing else."""
    _programs(t, 'fuse-unionfs')
    with open('/etc/passwd') as f:
        known = f.read()
    tree.write(t.dir + '/passwd', known + 'unionfs-test:x:1000:1000::/:/bin/sh\n')
    k.mount(t.dir + '/passwd', '/etc/passwd', None, k.MS_BIND)
    for opts, uid in (('drop_privileges,allow_other', 0), ('setuid=unionfs-test,drop_privileges,allow_other', 1000)):
        u = t.union(text='f f hello; f gone 1', name='as%d' % uid)
        for d in (u.upper, u.work, u.lowers[0], u.low('f'), u.low('gone')):
            os.chown(d, uid, uid)
        said = t.run('mount.fuse3', 'source', u.mnt, '-t', 'fuse-unionfs', '-o',
                     'default_permissions,%s,%s' % (opts, _layers(u)))
        t.eq(said, '')
        pids = [p for p in map(int, filter(str.isdigit, os.listdir('/proc'))) if _daemon_with(p, u.upper)]
        t.eq(len(pids), 1)
        with open('/proc/%d/status' % pids[0]) as f:
            status = dict(line.rstrip('\n').split(':\t', 1) for line in f if ':\t' in line)
        t.eq((status['CapEff'], status['NoNewPrivs'], status['Uid'].split()[0]), ('0' * 16, '1', str(uid)))
        t.as_user(uid, tree.write, u.m('new'), 'x')
        t.eq((tree.text(u.m('f')), tree.names(u.mnt), os.stat(u.up('new')).st_uid), ('hello', ['f', 'gone', 'new'], uid))
        k.umount(u.mnt)
        _until(t, lambda: not _daemon_with(pids[0], u.upper), 'the daemon does not end')
        u.check()


def _daemon_with(pid, word):
    try:
        with open('/proc/%d/cmdline' % pid, 'rb') as f:
            words = f.read().split(b'\0')
    except OSError:
        return False
    return b'fuse-unionfs' in words[0] and any(os.fsencode(word) in w for w in words)


def _device(u, opts='allow_other,default_permissions'):
    fd = os.open('/dev/fuse', os.O_RDWR)
    k.mount('none', u.mnt, 'fuse.fuse-unionfs', 0, 'fd=%d,rootmode=40000,user_id=%d,group_id=%d%s' %
            (fd, os.getuid(), os.getgid(), opts and ',' + opts))
    return fd


def _on_descriptor(t, u, fd, *opts, as_uid=None, groups=()):
    where, u.mnt = u.mnt, '/dev/fd/%d' % fd
    cmd = u.command(opts)
    u.mnt = where

    def drop():
        if as_uid is not None:
            os.setgroups(list(groups))
            os.setresgid(as_uid, as_uid, as_uid)
            os.setresuid(as_uid, as_uid, as_uid)
    with open(u.log, 'ab') as log:
        u.proc = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(fd,), preexec_fn=drop)
    os.close(fd)


@test(identities=('root', 'userns'))
def descriptor(t):
    """/dev/fd/N, mounted by somebody with more rights: everything is served on it, with several threads; the
    program never unmounts it, not when it is told to end either."""
    uid = 1000 if t.root else None
    for opts in ('allow_other,default_permissions', 'allow_other'):
        for ours in ((), ('noxattrs=1',), ('threads=4',)):
            u = t.union(text='f f hello; f gone 1', name='u%d' % len(t.unions))
            for d in (u.upper, u.work):
                os.chown(d, os.getuid() if uid is None else uid, -1)
            fd = _device(u, opts)
            _on_descriptor(t, u, fd, *ours, as_uid=uid)
            t.eq(tree.text(u.m('f')), 'hello', '%s %s' % (opts, ours))
            (t.as_user if uid else lambda _, fn, *a: fn(*a))(uid, tree.write, u.m('new'), 'x')
            t.eq(tree.names(u.mnt), ['f', 'gone', 'new'])
            u.umount()
    u = t.union(text='f f hello', name='told')
    _on_descriptor(t, u, _device(u))
    t.eq(tree.text(u.m('f')), 'hello')
    u.proc.send_signal(signal.SIGTERM)
    u.wait_end()
    t.eq(len(k.mounted_at(u.mnt)), 1)
    t.fails(errno.ENOTCONN, os.mkdir, u.m('new'))
    k.umount(u.mnt)


@test(identities=('root',))
def very_many_groups(t):
    """A plain user in 65,000 groups: files of the last of them are copied up, made, changed and given away."""
    uid, last = 1000, 2000000 + 65000 - 1
    groups = range(2000000, last + 1)
    u = t.union(text='f f hello 664; d d 2775')
    for n in (u.low('f'), u.low('d')):
        os.chown(n, uid, last)
    for d in (u.upper, u.work):
        os.chown(d, uid, uid)
    _on_descriptor(t, u, _device(u), as_uid=uid, groups=groups)

    def use():
        tree.append(u.m('f'), ' world')
        tree.write(u.m('d/new'), 'x')
        tree.write(u.m('mine'), 'x')
        os.chown(u.m('mine'), -1, last)
        os.chmod(u.m('mine'), 0o2750)
    t.as_user(uid, use, groups=groups)
    t.eq(tree.text(u.up('f')), 'hello world')
    for n in ('f', 'd/new', 'mine'):
        st = os.lstat(u.up(n))
        t.eq((st.st_uid, st.st_gid), (uid, last), n)
    t.eq(os.lstat(u.up('mine')).st_mode & 0o7777, 0o2750)
    u.umount()


@test()
def hundred_mounts(t):
    """Mounted, used and unmounted a hundred times: no daemon and no mount is left, nor any name of ours."""
    u = t.union(text='f f hello; f d/x 1')
    before = len(k.mounts())
    for i in range(100):
        _start(t, u)
        if i % 10 == 0:
            tree.write(u.m('d/n%d' % i), 'x')
        t.eq(tree.text(u.m('f')), 'hello')
        u.unmount_once()
    _until(t, lambda: not _serving(u.mnt), 'daemons left: %s' % _serving(u.mnt))
    t.eq(len(k.mounts()), before)
    u.check()
    t.eq(tree.names(u.up('d')), sorted('n%d' % i for i in range(0, 100, 10)))


@test()
def end_of_the_session(t):
    """The session that mounted is killed, its terminal hangs up: the mount lives on."""
    u = t.union(text='f f hello; f gone 1')
    script = '%s; echo ready; exec sleep 100' % ' '.join("'%s'" % w for w in u.command((), foreground=False))
    p = subprocess.Popen(['sh', '-e', '-c', script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                         start_new_session=True)
    t.eq(p.stdout.readline(), 'ready\n')
    os.killpg(p.pid, signal.SIGHUP)
    os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    p.stdout.close()
    for pid in _serving(u.mnt):
        os.kill(pid, signal.SIGHUP)
    _use(t, u)


@test()
def busy(t):
    """An unmount while files are open is EBUSY and changes nothing."""
    u = t.mounted('f f hello; f gone 1')
    fd = os.open(u.m('f'), os.O_RDWR)
    for _ in range(3):
        t.fails(errno.EBUSY, u.unmount_once)
        os.pwrite(fd, b'J', 0)
        t.eq(tree.text(u.m('f')), 'Jello')
        t.ok(u.proc.poll() is None)
    os.close(fd)
    os.chdir(u.mnt)
    t.fails(errno.EBUSY, u.unmount_once)
    t.eq(sorted(os.listdir('.')), ['f', 'gone'])
    os.chdir('/')


@test()
def name(t):
    """Under the name fuse-overlayfs --version begins as that program's does; all else is the same."""
    link = t.dir + '/fuse-overlayfs'
    os.symlink(t.binary, link)
    said = t.run(link, '--version').split('\n')
    t.ok(said[0].startswith('fuse-overlayfs: version 1.') and int(said[0].split('.')[1]) >= 14, said[0])
    t.ok(said[1].startswith('fuse-unionfs: version '), said[1])
    t.ok(t.run(t.binary, '--version').startswith('fuse-unionfs: version '))
    u = t.union(text='f f hello; f gone 1')
    cmd = u.command(('volatile',), foreground=False)
    t.eq(t.run(link, *cmd[1:]), '')
    t.eq(tree.text(u.m('f')), 'hello')
    u.unmount_once()
