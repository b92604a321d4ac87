# SPDX-License-Identifier: GPL-2.0-or-later
"""A mistake gets one sentence that names the option, the path and the reason; nothing changes."""
import os
import subprocess

from lib import k, test, tree


def _setup(t):
    d = t.dir
    for x in ('l1/in', 'l2', 'u/in', 'w/in', 'u2', 'w2', 'm', 'winc/work/incompat/volatile/dirty', 'locked'):
        os.makedirs(os.path.join(d, x))
    for x in ('file', 'l1/f', 'u/g', 'w/kept'):
        tree.write(os.path.join(d, x), 'x')
    os.symlink('nowhere', d + '/dangling')
    return d


def _run(t, args, **kw):
    p = subprocess.run([t.binary] + args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=30 * t.slow, **kw)
    return p.returncode, p.stdout, p.stderr


CASES = [
    # (name, options, mountpoint, words the sentence must hold)
    ('lower missing', 'lowerdir={d}/nope,upperdir={d}/u,workdir={d}/w', 'm', ['lowerdir', '{d}/nope', 'No such file']),
    ('second lower missing', 'lowerdir={d}/l1:{d}/nope', 'm', ['lowerdir', '{d}/nope', 'No such file']),
    ('upper missing', 'lowerdir={d}/l1,upperdir={d}/nope,workdir={d}/w', 'm', ['upperdir', '{d}/nope', 'No such file']),
    ('work missing', 'lowerdir={d}/l1,upperdir={d}/u,workdir={d}/nope', 'm', ['workdir', '{d}/nope', 'No such file']),
    ('dangling lower', 'lowerdir={d}/dangling,upperdir={d}/u,workdir={d}/w', 'm', ['lowerdir', '{d}/dangling', 'No such file']),
    ('lower is a file', 'lowerdir={d}/file,upperdir={d}/u,workdir={d}/w', 'm', ['lowerdir', '{d}/file', 'directory']),
    ('upper is a file', 'lowerdir={d}/l1,upperdir={d}/file,workdir={d}/w', 'm', ['upperdir', '{d}/file', 'directory']),
    ('work is a file', 'lowerdir={d}/l1,upperdir={d}/u,workdir={d}/file', 'm', ['workdir', '{d}/file', 'directory']),
    ('no lower', 'upperdir={d}/u,workdir={d}/w', 'm', ['lowerdir']),
    ('empty lower', 'lowerdir=,upperdir={d}/u,workdir={d}/w', 'm', ['lowerdir']),
    ('upper without work', 'lowerdir={d}/l1,upperdir={d}/u', 'm', ['workdir']),
    ('work is upper', 'lowerdir={d}/l1,upperdir={d}/u,workdir={d}/u', 'm', ['workdir', 'upperdir', '{d}/u']),
    ('work in upper', 'lowerdir={d}/l1,upperdir={d}/u,workdir={d}/u/in', 'm', ['workdir', 'upperdir']),
    ('upper in work', 'lowerdir={d}/l1,upperdir={d}/w/in,workdir={d}/w', 'm', ['workdir', 'upperdir']),
    ('lower is upper', 'lowerdir={d}/l1,upperdir={d}/l1,workdir={d}/w', 'm', ['lowerdir', '{d}/l1']),
    ('lower in upper', 'lowerdir={d}/u/in,upperdir={d}/u,workdir={d}/w', 'm', ['lowerdir', '{d}/u/in']),
    ('lower twice', 'lowerdir={d}/l1:{d}/l1', 'm', ['lowerdir', '{d}/l1']),
    ('lower in lower', 'lowerdir={d}/l1:{d}/l1/in', 'm', ['lowerdir', '{d}/l1']),
    ('leading colon', 'lowerdir=:{d}/l1', 'm', ['lowerdir']),
    ('trailing colon', 'lowerdir={d}/l1:', 'm', ['lowerdir']),
    ('mountpoint missing', 'lowerdir={d}/l1,upperdir={d}/u,workdir={d}/w', 'nomnt', ['{d}/nomnt', 'No such file']),
    ('mountpoint is a file', 'lowerdir={d}/l1,upperdir={d}/u,workdir={d}/w', 'file', ['{d}/file', 'directory']),
    ('bad timeout', 'lowerdir={d}/l1,timeout=soon', 'm', ['timeout', 'soon']),
    ('bad threads', 'lowerdir={d}/l1,threads=-3', 'm', ['threads', '-3']),
    ('bad fsync', 'lowerdir={d}/l1,fsync=maybe', 'm', ['fsync', 'maybe']),
    ('bad writeback', 'lowerdir={d}/l1,writeback=2', 'm', ['writeback', '2']),
    ('bad max_write', 'lowerdir={d}/l1,max_write=x', 'm', ['max_write', 'x']),
    ('left volatile', 'lowerdir={d}/l1,upperdir={d}/u,workdir={d}/winc', 'm', ['{d}/winc', 'volatile']),
]


@test()
def sentences(t):
    """Every mistake: exit status 1, one line on stderr with option, path and reason, no change
    on disk, nothing mounted; with and without -f."""
    d = _setup(t)
    before = tree.snapshot(d)
    for name, opts, mnt, words in CASES:
        for extra in ([], ['-f']):
            r, out, err = _run(t, extra + ['-o', opts.format(d=d), os.path.join(d, mnt)])
            t.eq((r, out), (1, ''), name)
            t.eq(len(err.strip().split('\n')), 1, '%s: not one line: %r' % (name, err))
            for w in words:
                t.ok(w.format(d=d) in err, '%s: %r is not in %r' % (name, w.format(d=d), err))
            t.ok('fuse: ' not in err.replace('fuse-unionfs: ', ''), '%s: a message of libfuse: %r' % (name, err))
        t.eq([m for m in k.mounts() if m[1].startswith(d) and m[2].startswith('fuse')], [], name)
        t.same_tree(before, tree.snapshot(d), name + ' changed something')


@test()
def wrong_command_lines(t):
    """Missing and surplus arguments, options without a value."""
    d = _setup(t)
    good = 'lowerdir=%s/l1,upperdir=%s/u,workdir=%s/w' % (d, d, d)
    for args in ([], ['-o', good], ['-o'], ['-o', good, 'a', d + '/m', 'third'], ['--nonsense', '-o', good, d + '/m'],
                 ['-o', 'lowerdir=' + ':'.join('%s/l1' % d for _ in range(501)), d + '/m']):
        r, out, err = _run(t, args)
        t.eq((r, out), (1, ''), args)
        t.ok(err.strip() and len(err.strip().split('\n')) <= 3, '%s: %r' % (args[:3], err))
    t.eq(k.mounted_at(d + '/m'), [])


@test()
def warned_about_and_ignored(t):
    """Unknown options, empty items, and options of the peers that are not implemented: a line on
    stderr each, and the mount works."""
    u = t.union(text='f f hello')
    for o in ('nonsense', 'nonsense=1', '', 'nfs_export=on', 'nooverride_creds', 'fast_ino',
              'plugins=x'):
        p = subprocess.run(u.command((o, 'noatime'), foreground=False), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30 * t.slow)
        t.eq((p.returncode, p.stdout), (0, ''), '%s: %s' % (o, p.stderr))
        t.eq(tree.text(u.m('f')), 'hello')
        t.ok(o.split('=')[0] in p.stderr and p.stderr.strip(), 'no warning about %r: %r' % (o, p.stderr))
        t.ok(len(p.stderr.strip().split('\n')) == 1, p.stderr)
        u.unmount_once()


@test()
def volatile_is_refused_like_the_kernel_does(t):
    """After a volatile mount the work directory is refused until somebody removes the mark."""
    u = t.union(text='f f 1')
    u.mount('volatile')
    tree.write(u.m('n'), 'x')
    u.umount()
    t.ok(os.path.isdir(u.work + '/work') and 'incompat' in u.staged())
    before = tree.snapshot(u.upper)
    for opts in ((), ('volatile',)):
        r, out, err = _run(t, u.command(opts)[1:])
        t.eq((r, out), (1, ''))
        t.ok('volatile' in err and u.work in err and len(err.strip().split('\n')) == 1, err)
    t.same_tree(before, tree.snapshot(u.upper))
    t.sh('chmod -R u+rwx %s/work; rm -rf %s/work/incompat/volatile' % (u.work, u.work))
    u.mount()
    t.eq(tree.names(u.mnt), ['f', 'n'])
    u.umount()
    for o in ('fsync=volatile', 'fsync=0'):
        t.sh('chmod -R u+rwx %s/work || true; rm -rf %s/work' % (u.work, u.work))
        u.mount(o)
        u.umount()
        if o == 'fsync=volatile':
            t.ok('incompat' in u.staged(), o)


@test(identities=('root',))
def missing_device(t):
    """No /dev/fuse at all: a sentence that says so."""
    u = t.union(text='f f 1')
    before = tree.snapshot(u.root)
    k.mount('tmpfs', '/dev', 'tmpfs')
    for n, minor in (('null', 3), ('zero', 5), ('urandom', 9)):
        os.mknod('/dev/' + n, 0o020666, os.makedev(1, minor))
    r, out, err = _run(t, u.command(())[1:])
    t.eq(r, 1)
    t.ok('/dev/fuse' in err and 'No such file' in err and len(err.strip().split('\n')) == 1, err)
    t.same_tree(before, tree.snapshot(u.root))


def _close_device(directory):
    os.chmod('/dev/fuse', 0o600)


@test(identities=('user', 'userns'), prepare=_close_device)
def closed_device(t):
    """/dev/fuse of mode 0600 (the namespace's own node): fusermount3 opens it as root and may
    work; where it does not, the sentence names the device and the reason."""
    u = t.union(text='f f 1')
    before = tree.snapshot(u.root)
    try:
        os.close(os.open('/dev/fuse', os.O_RDWR))
        t.ok(False, 'the device is open after all')
    except PermissionError:
        pass
    r, out, err = _run(t, u.command((), foreground=False)[1:])
    if r == 0:
        t.eq(tree.text(u.m('f')), '1')
        u.unmount_once()
        return
    t.eq(r, 1)
    t.ok('/dev/fuse' in err and 'ermission denied' in err, err)
    t.same_tree(before, tree.snapshot(u.root))


@test(identities=('root', 'user'))
def upper_that_cannot_be_written(t):
    """An upper or work on a read-only mount, or closed to the user."""
    d = _setup(t)
    if t.root:
        os.makedirs(d + '/ro/u')
        os.makedirs(d + '/ro/w')
        k.mount(d + '/ro', d + '/ro', None, k.MS_BIND)
        k.mount('none', d + '/ro', None, k.MS_BIND | k.MS_REMOUNT | k.MS_RDONLY)
        opts, words = 'lowerdir=%s/l1,upperdir=%s/ro/u,workdir=%s/ro/w' % (d, d, d), ('Read-only', 'read-only')
    else:
        os.chmod(d + '/locked', 0o500)
        opts, words = 'lowerdir=%s/l1,upperdir=%s/u,workdir=%s/locked' % (d, d, d), ('ermission denied',)
    try:
        r, out, err = _run(t, ['-o', opts, d + '/m'])
        t.eq((r, out), (1, ''), err)
        t.ok(any(w in err for w in words) and ('upperdir' in err or 'workdir' in err), err)
        t.eq(len(err.strip().split('\n')), 1, err)
    finally:
        if t.root:
            k.umount(d + '/ro', k.MNT_DETACH)
        else:
            os.chmod(d + '/locked', 0o700)


@test(identities=('user',))
def lower_that_cannot_be_read(t):
    d = _setup(t)
    os.makedirs(d + '/closed/in')
    os.chmod(d + '/closed', 0)
    try:
        r, out, err = _run(t, ['-o', 'lowerdir=%s/closed/in' % d, d + '/m'])
        t.eq(r, 1)
        t.ok('lowerdir' in err and d + '/closed/in' in err and 'ermission denied' in err, err)
    finally:
        os.chmod(d + '/closed', 0o700)


@test(identities=('user',))
def allow_other_not_permitted(t):
    """fusermount3 refuses allow_other for users unless the machine allows it: its reason shows."""
    u = t.union(text='f f 1')
    r, out, err = _run(t, u.command(('allow_other',), foreground=False)[1:])
    if r == 0:
        u.unmount_once()
        return
    t.eq(r, 1)
    t.ok('allow_other' in err and err.strip(), err)


@test(identities=('root',))
def five_hundred_and_one(t):
    """500 lowers work (test_layers), 501 are refused by number."""
    d = t.dir
    for i in range(501):
        os.mkdir('%s/%d' % (d, i))
    os.mkdir(d + '/m')
    r, out, err = _run(t, ['-o', 'lowerdir=' + ':'.join(map(str, range(501))), 'm'], cwd=d)
    t.eq(r, 1)
    t.ok('500' in err and 'lowerdir' in err, err)
