# SPDX-License-Identifier: GPL-2.0-or-later
"""Odd stacks: layers that contain the mount, sub-mounts, symlinks, many layers, shared layers."""
import errno
import os
import resource
import subprocess
import time

from lib import k, test, tree


def _mount_raw(t, u, lower, *opts, **kw):
    """Mount with lowerdir= given literally."""
    u.lowers = []
    u.check_lowers = False
    plain = u.command

    def command(o, **kw2):
        cmd = plain(o, **kw2)
        i = cmd.index('-o') + 1
        cmd[i] = cmd[i].replace('lowerdir=', 'lowerdir=' + lower, 1)
        return cmd
    u.command = command
    return u.mount(*opts, **kw)


@test()
def lower_is_the_root(t):
    """lowerdir=/ : what sandboxes use. The mount never meets itself, nothing deadlocks."""
    u = t.union()
    _mount_raw(t, u, '/')
    t.eq(tree.names(u.mnt), tree.names('/'))
    t.ok(b'root' in tree.read(u.m('etc/passwd')))
    t.eq(tree.names(u.m('proc')), [], 'a sub-mount is entered')
    inside = u.m(u.mnt.lstrip('/'))
    if t.fs == 'ext4' and os.path.isdir(inside):
        t.eq(os.listdir(inside), [], 'the mountpoint seen through the mount')
    t.sh('find usr/share -maxdepth 2 | wc -l; ls -la . dev proc sys tmp var > /dev/null', cwd=u.mnt, check=False)
    if t.root:
        tree.write(u.m('etc/new-file'), 'x')
        t.ok(not os.path.exists('/etc/new-file'))
        os.unlink(u.m('etc/passwd'))
        t.ok(os.path.exists('/etc/passwd'))
        t.eq(t.run('chroot', u.mnt, '/bin/echo', 'hello').strip(), 'hello')


@test()
def mountpoint_inside_the_lower(t):
    """The mountpoint, the upper and the work directory lie in the lower."""
    u = t.union()
    base = u.root + '/base'
    os.makedirs(base + '/mnt')
    os.makedirs(base + '/upper')
    os.makedirs(base + '/work')
    tree.build(base, 'f f hello; f d/x 1')
    u.mnt, u.upper, u.work = base + '/mnt', base + '/upper', base + '/work'
    _mount_raw(t, u, base)
    t.eq(tree.names(u.mnt), ['d', 'f', 'mnt', 'upper', 'work'])
    t.eq(os.listdir(u.m('mnt')), [])
    t.sh('find . | sort > /dev/null; du -a . > /dev/null || true; ls -lR . || true', cwd=u.mnt)
    t.sh('cp f g; rm -r d', cwd=u.mnt)
    t.eq(tree.text(u.m('g')), 'hello')
    for n in ('upper', 'work'):
        try:                                    # ELOOP in the kernel; an empty directory is as good
            for name in os.listdir(u.m(n)):
                os.lstat(u.m(n + '/' + name))
        except OSError as e:
            t.ok(e.errno in (errno.ELOOP, errno.EACCES, errno.EPERM), str(e))
    t.ok(tree.is_whiteout(u.up('d')))
    u.umount()


@test(identities=('root', 'userns'))
def sub_mounts_of_a_layer(t):
    """A file system mounted inside a lower or the upper is not entered: an empty directory, as
    in the kernel, whose real contents stay as they are; a bind-mounted file is the one below."""
    u = t.union(text='d d/sub; f d/f below; f d/sub/hidden 1; f d/after 1')
    tree.write(u.root + '/other', 'mounted')
    k.mount('tmpfs', u.low('d/sub'), 'tmpfs')
    k.mount(u.root + '/other', u.low('d/f'), None, k.MS_BIND)
    u.check_lowers = False
    try:
        tree.write(u.low('d/sub/in-mount'), 'x')
        u.mount()
        entries = {n: ty for _, ty, n in k.listing(u.m('d'))}
        t.eq(sorted(n for n in entries if n[0] != '.'), ['after', 'f', 'sub'])
        t.eq(entries['sub'], 4)
        t.ok('in-mount' not in os.listdir(u.m('d/sub')))
        t.fails(errno.ENOENT, os.stat, u.m('d/sub/in-mount'))
        st = os.stat(u.m('d/sub'))
        t.ok(st.st_mode & 0o170000 == 0o040000)
        try:
            t.ok(tree.text(u.m('d/f')) in ('below', ''), 'the bind mount is read')
        except OSError as e:
            t.ok(e.errno in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EREMOTE, errno.EIO), str(e))
        t.eq(tree.text(u.m('d/after')), '1')
        tree.append(u.m('d/after'), '2')
        t.sh('ls -lR . > /dev/null', cwd=u.mnt)
        u.umount()
    finally:
        u.cleanup()
        k.umount(u.low('d/sub'), k.MNT_DETACH)
        k.umount(u.low('d/f'), k.MNT_DETACH)
    t.eq(tree.names(u.low('d/sub')), ['hidden'])


@test(identities=('root', 'userns'))
def mounted_over_later(t):
    """Something mounted over a directory of a layer while the union is in use."""
    u = t.mounted('f d/x 1; f e/y 1')
    t.eq(tree.names(u.m('d')), ['x'])
    k.mount('tmpfs', u.low('e'), 'tmpfs')
    try:
        t.ok(tree.names(u.m('e')) in ([], ['y']))
        t.eq(tree.text(u.m('d/x')), '1')
        t.sh('ls -lR . > /dev/null; rm -r d', cwd=u.mnt)
    finally:
        k.umount(u.low('e'), k.MNT_DETACH)


@test()
def mounted_over_a_layer(t):
    """The mountpoint is the upper, or a lower: it shows the union, the layers still work."""
    for which in ('upper', 'lower'):
        u = t.union(text='f low 1; f d/x 1', name=which)
        u.mnt = u.upper if which == 'upper' else u.lowers[0]
        before = tree.snapshot(u.lowers[0])
        u.check_lowers = u.check_layers = False
        u.mount()
        t.eq(tree.names(u.mnt), ['d', 'low'])
        tree.write(u.m('new'), 'x')
        os.unlink(u.m('d/x'))
        t.eq(tree.names(u.mnt), ['d', 'low', 'new'])
        u.umount()
        t.same_tree(before, tree.snapshot(u.lowers[0]), 'the lower')
        t.eq(tree.names(u.upper), ['d', 'new'])


@test()
def docker_style_symlinks(t):
    """Lowers given as short symlinks relative to the storage directory the program runs in; the
    daemon goes to the background and still finds them."""
    u = t.union(lowers=0, name='storage')
    layers = []
    os.mkdir(u.root + '/l')
    for i in range(4):
        os.makedirs('%s/layer%d/diff' % (u.root, i))
        tree.build('%s/layer%d/diff' % (u.root, i), 'f f%d %d; f same %d; f d/x%d 1' % (i, i, i, i))
        os.symlink('../layer%d/diff' % i, '%s/l/ABCDEFGHIJKLMNOPQRSTUVWX%02d' % (u.root, i))
        layers.append('l/ABCDEFGHIJKLMNOPQRSTUVWX%02d' % i)
    os.chdir(u.root)
    p = subprocess.run([t.binary, '-o', 'lowerdir=%s,upperdir=upper,workdir=work' % ':'.join(layers), 'mnt'],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    t.eq((p.returncode, p.stdout), (0, ''))
    os.chdir('/')
    try:
        t.eq(tree.names(u.mnt), ['d', 'f0', 'f1', 'f2', 'f3', 'same'])
        t.eq(tree.text(u.m('same')), '0')
        t.eq(tree.names(u.m('d')), ['x0', 'x1', 'x2', 'x3'])
        tree.write(u.m('new'), 'x')
    finally:
        u.unmount_once()
    t.ok(os.path.exists(u.upper + '/new'))


@test(everywhere=True, timeout=120)
def many_layers(t):
    """128 and 500 layers: merged directories, whiteouts in the middle, the top one wins."""
    for n in (128, 500):
        u = t.union(lowers=0, name='n%d' % n)
        for i in range(n):
            d = '%s/%d' % (u.root, i)
            os.mkdir(d)
            tree.build(d, 'f f%d %d; f same %d; f d/x%d 1' % (i, i, i, i))
            if i == n // 2:
                tree.build(d, 'w gone; w f%d' % (n - 2))
            elif i == n - 1:
                tree.build(d, 'f gone 1; f only-lowest/x 1')
        u.check_lowers = False
        _mount_raw(t, u, ':'.join(str(i) for i in range(n)), cwd=u.root)
        t.eq(tree.text(u.m('same')), '0')
        t.eq(tree.text(u.m('f%d' % (n - 1))), str(n - 1))
        t.fails(errno.ENOENT, os.stat, u.m('gone'))
        t.fails(errno.ENOENT, os.stat, u.m('f%d' % (n - 2)))
        t.eq(len(os.listdir(u.m('d'))), n)
        t.eq(tree.names(u.m('only-lowest')), ['x'])
        tree.append(u.m('only-lowest/x'), '2')
        os.unlink(u.m('d/x%d' % (n - 1)))
        u.remount()
        t.eq(len(os.listdir(u.m('d'))), n - 1)
        t.eq(tree.text(u.m('only-lowest/x')), '12')
        t.sh('rm -rf d', cwd=u.mnt)
        u.umount()


@test(identities=('root', 'user'))
def many_layers_under_few_descriptors(t):
    """500 layers by a daemon that starts with 1,024 descriptors."""
    u = t.union(lowers=0)
    for i in range(500):
        os.makedirs('%s/%d/d/e' % (u.root, i))
        tree.write('%s/%d/d/e/f%d' % (u.root, i, i), str(i))
    _mount_raw(t, u, ':'.join(str(i) for i in range(500)), cwd=u.root,
               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)))
    for i in range(0, 500, 7):
        t.eq(tree.text(u.m('d/e/f%d' % i)), str(i))
    t.eq(len(os.listdir(u.m('d/e'))), 500)


@test()
def lowerdir_plus(t):
    """lowerdir+=PATH once per layer, the value taken literally."""
    u = t.union(lowers=3, name='plus')
    u.put('f a 1')
    u.put('f a 2; f b 2', 1)
    u.put('f b 3; f c 3', 2)
    odd = u.root + '/odd:na me'
    os.mkdir(odd)
    tree.write(odd + '/odd', 'x')
    lowers, u.lowers = u.lowers + [odd], []
    plain = u.command
    u.command = lambda o, **kw: [x.replace('lowerdir=', ','.join('lowerdir+=' + l for l in lowers), 1)
                                 if x.startswith('lowerdir=') else x for x in plain(o, **kw)]
    u.mount()
    t.eq([tree.text(u.m(n)) for n in ('a', 'b', 'c', 'odd')], ['1', '2', '3', 'x'])


@test()
def escapes_in_paths(t):
    r"""`\:`, `\,` and `\\` in lowerdir, upperdir and workdir; spaces and newlines as they are."""
    u = t.union(lowers=0)
    parts = ['co:lon', 'com,ma', 'back\\slash', 'spa ce', 'new\nline', 'equal=sign', 'trail\\']
    u.lowers = ['%s/%s' % (u.root, p) for p in parts]
    for i, l in enumerate(u.lowers):
        os.mkdir(l)
        tree.build(l, 'f f%d %d' % (i, i))
    u.upper, u.work = u.root + '/up:per,1', u.root + '/wo,rk:\\'
    u.mnt = u.root + '/mnt,a:b'
    for d in (u.upper, u.work, u.mnt):
        os.mkdir(d)
    u.mount()
    t.eq(tree.names(u.mnt), ['f%d' % i for i in range(len(parts))])
    tree.write(u.m('new'), 'x')
    t.eq(tree.names(u.upper), ['new'])


@test()
def two_mounts_share_lowers(t):
    """Two mounts of the same lowers with private uppers do not see each other's changes; the
    lower of one may be the upper of another that is no longer written."""
    base = t.union(text='f shared base; f gone 1; f d/x 1', name='base')
    a = t.union(lowers=base.lowers, name='a').mount()
    b = t.union(lowers=base.lowers, name='b').mount()
    tree.write(a.m('shared'), 'a')
    tree.append(b.m('shared'), '+b')
    os.unlink(a.m('gone'))
    tree.write(b.m('d/y'), 'b')
    t.eq((tree.text(a.m('shared')), tree.text(b.m('shared'))), ('a', 'base+b'))
    t.eq((tree.names(a.mnt), tree.names(b.mnt)), (['d', 'shared'], ['d', 'gone', 'shared']))
    t.eq((tree.names(a.m('d')), tree.names(b.m('d'))), (['x'], ['x', 'y']))
    a.umount()
    c = t.union(lowers=[a.upper] + base.lowers, name='c').mount()
    t.eq((tree.text(c.m('shared')), tree.names(c.mnt)), ('a', ['d', 'shared']))
    tree.write(c.m('gone'), 'again')
    t.eq((tree.text(c.m('gone')), tree.text(b.m('gone'))), ('again', '1'))
    c.umount()
    b.umount()


@test(identities=('root', 'user'))
def union_of_unions(t):
    """A union as the lower of another, both alive."""
    a = t.union(text='f f 1; f d/x 1', name='a').mount()
    tree.write(a.m('new'), 'from a')
    os.unlink(a.m('d/x'))
    b = t.union(lowers=[a.mnt], name='b')
    b.check_lowers = False
    b.mount()
    t.eq(tree.names(b.mnt), ['d', 'f', 'new'])
    tree.append(b.m('new'), ' and b')
    os.unlink(b.m('f'))
    t.eq((tree.text(b.m('new')), tree.text(a.m('new'))), ('from a and b', 'from a'))
    t.eq((tree.names(b.mnt), tree.names(a.mnt)), (['d', 'new'], ['d', 'f', 'new']))
    b.umount()
    a.umount()


@test()
def work_contents(t):
    """Files put into workdir by hand do not show and do no harm; WORK/work is emptied at mount,
    what lies beside it is left alone (index/ is ours, too)."""
    u = t.union(text='f a 1')
    tree.build(u.work, 'f mine 1; f work/#old 1; f work/left/over 1; f work/wh 1')
    u.mount()
    t.eq(tree.names(u.mnt), ['a'])
    tree.write(u.work + '/while-mounted', 'x')
    t.eq(tree.names(u.mnt), ['a'])
    os.unlink(u.m('a'))
    tree.write(u.m('b'), '1')
    t.eq(tree.names(u.mnt), ['b'])
    u.umount()
    t.eq(set(tree.names(u.work)) - {'index'}, {'mine', 'while-mounted', 'work'})
    t.eq(u.staged(), [])


@test()
def timeout_zero_sees_foreign_changes(t):
    """timeout=0: changes made to the layers by others are seen."""
    u = t.union(text='f f old; f d/x 1')
    u.check_lowers = False
    u.mount('timeout=0')
    t.eq((tree.text(u.m('f')), tree.names(u.m('d'))), ('old', ['x']))
    t.fails(errno.ENOENT, os.stat, u.m('d/new'))
    tree.write(u.low('f'), 'new and longer')
    tree.write(u.low('d/new'), 'here')
    tree.write(u.up('direct'), 'here')
    os.unlink(u.low('d/x'))
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if tree.text(u.m('f')) == 'new and longer' and tree.names(u.m('d')) == ['new']:
            break
        time.sleep(0.1)
    t.eq(tree.text(u.m('f')), 'new and longer')
    t.eq(tree.names(u.m('d')), ['new'])
    t.eq((tree.text(u.m('d/new')), tree.text(u.m('direct'))), ('here', 'here'))
    t.fails(errno.ENOENT, os.stat, u.m('d/x'))


@test(identities=('root',))
def proc_as_a_layer(t):
    """Files of size 0 with content: such a lower is refused, or its files read right."""
    u = t.union(lowers=0)
    _mounted = False
    try:
        _mount_raw(t, u, '/proc/sys')
        _mounted = True
    except AssertionError:
        t.ok('proc' in u.log_text(), 'refused without saying why: ' + u.log_text())
    if _mounted:
        t.eq(tree.read(u.m('kernel/ostype')), tree.read('/proc/sys/kernel/ostype'))
