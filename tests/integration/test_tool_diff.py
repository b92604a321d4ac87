# SPDX-License-Identifier: GPL-2.0-or-later
"""`fuse-unionfs-layer diff`: what it says explains what is seen, whoever has written the upper."""
import json
import os
import shutil

from lib import test, tree
from lib.layertool import RandomUnion, changes, oracle, tool, unexplained
from lib.overlay import by_kernel

LOWER = ('f etc/passwd hello; f etc/other x; d usr/share/doc; f usr/share/doc/f 1; f a/x/f 1; f a/g 2; f b/z z; '
         'f old/sub/d d; f old/d2 d2; f meta big; f same/s s; l link etc; f gone 1; f mode 1')

CHANGE = '''
printf more >> etc/passwd; rm -r usr/share/doc; mv a aa; mv aa/x c; printf new > new; chmod 600 mode
rm -r old; mkdir old; printf q > old/q; mv meta meta2; rm -r b; printf file > b; rm gone
ln -sf other link2; chmod 700 same; chmod 755 same; touch -r etc/other same/s
'''


def lines(*layers):
    return [l for l in tool('diff', *layers, status=(0, 1)).split('\n') if l]


def lower_view(t, lowers):
    v = t.union(lowers=lowers, upper=False, name='lower-view').mount('noatime')
    seen = tree.snapshot(v.mnt)
    v.umount()
    return seen


def explains(t, u_lowers, upper, after, what=''):
    bad = unexplained(lower_view(t, u_lowers), after, changes(upper, *u_lowers))
    t.ok(not bad, '%s\n  %s' % (what, '\n  '.join(bad[:30])))


@test()
def words(t):
    """Each kind of change has its line, sorted; moves are moves; what is new in a replaced directory is told by
    name; copies without a difference are shown only when asked for."""
    u = t.mounted(LOWER)
    t.sh(CHANGE, cwd=u.mnt)
    after = tree.snapshot(u.mnt)
    u.umount()
    t.eq(lines(u.upper, *u.lowers),
         ['moved    aa/ <- a/', 'type     b (directory -> file)', 'moved    c/ <- a/x/',
          'changed  etc/passwd (content, times)', 'removed  gone', 'added    link2', 'moved    meta2 <- meta',
          'changed  mode (mode 0644 -> 0600)', 'added    new', 'removed  old/d2', 'added    old/q',
          'removed  old/sub/', 'changed  same/s (times)', 'removed  usr/share/doc/'])
    every = lines('--all', u.upper, *u.lowers)
    for l in ('same     etc/', 'same     usr/share/', 'same     same/'):
        t.ok(l in every, '%s not in %s' % (l, every))
    explains(t, u.lowers, u.upper, after)


@test()
def forms(t):
    """--stat counts, --content has unified diffs, --json can be read; the exit status says whether something
    changed; names with odd bytes stay on their line."""
    u = t.mounted('f a one; f b two; f dir/c 3')
    t.sh('printf two > a; rm b; printf x > "$(printf "new\\nline")"', cwd=u.mnt)
    tree.write(os.fsencode(u.mnt) + b'/\xff', 'y')
    u.umount()
    t.eq(lines(u.upper, *u.lowers), ['changed  a (content, times)', 'removed  b', 'added    new\\012line',
                                     'added    \udcff'])
    t.eq(lines('--stat', u.upper, *u.lowers),
         ['added    2', 'removed  1', 'changed  1', 'of files that were there: content 1, times 1',
          '5 bytes of data are new'])
    t.need('diff')
    text = tool('diff', '--content', u.upper, *u.lowers, status=1)
    for l in ('--- a/a', '+++ b/a', '-one', '+two', '--- a/b', '+++ /dev/null', '-two'):
        t.ok(l in text.split('\n'), '%s not in %s' % (l, text))
    said = json.loads(tool('diff', '--json', u.upper, *u.lowers, status=1))
    t.eq([(c['kind'], c['path']) for c in said['changes']],
         [('changed', 'a'), ('removed', 'b'), ('added', 'new\nline'), ('added', '\ufffd')])
    t.eq(said['changes'][0]['changed'], ['content', 'times'])
    t.eq(said['changes'][3]['path_base64'], '/w==')
    t.eq(said['counts']['added'], 2)
    os.makedirs(t.dir + '/empty')
    t.eq(tool('diff', t.dir + '/empty', *u.lowers), '')
    t.ok('no LOWER' in tool('diff', '--content', u.upper, status=2))
    t.ok('No such file' in tool('diff', u.upper, t.dir + '/none', status=2))
    t.ok('one of them only' in tool('diff', '--json', '--content', u.upper, *u.lowers, status=2))
    t.ok('cannot be shown' in tool('diff', '--content', u.upper, *u.lowers, status=2, env={'PATH': '/nowhere'}))


@test()
def without_lowers(t):
    """What the marks of an upper say by themselves."""
    u = t.mounted(LOWER)
    t.sh(CHANGE, cwd=u.mnt)
    u.umount()
    # Nobody who is no root marks a symlink; a link made anew never has an origin.
    want = ['moved    aa/ <- a/', 'added    b', 'moved    c/ <- a/x/', 'changed  etc/passwd', 'removed  gone',
            'added    link2', 'moved    meta2 <- meta', 'changed  mode', 'added    new', 'added    old/', 'added    old/q',
            'changed  same/s', 'removed  usr/share/doc']
    t.eq(lines(u.upper), want)
    t.ok('same     usr/share/' in lines('--all', u.upper))
    kinds = [(c['kind'], c['path']) for c in changes(u.upper)]
    t.eq(kinds[:3], [('moved', 'aa'), ('added', 'b'), ('moved', 'c')])
    u.put('wh beside; xw mark; d tar; f tar/.wh.x; woq tar', 'upper')
    got = lines(u.upper)
    for l in ('removed  beside', 'removed  mark', 'removed  tar/x'):
        t.ok(l in got, '%s not in %s' % (l, got))


@test(identities=('root',))
def attributes(t):
    """Mode, owner, times, and attributes by name; ACLs are attributes; marks are none."""
    u = t.mounted('f a 1; f b 1; f c 1; x c user.x 1; x c user.y 1; x c user.z 1; f d 1; l e x')
    os.chown(u.m('a'), 7, 8)
    os.chmod(u.m('a'), 0o4711)
    os.utime(u.m('b'), ns=(1, 5))
    for n, v in (('user.x', b'2'), ('user.new', b'')):
        os.setxattr(u.m('c'), n, v)
    os.removexattr(u.m('c'), 'user.z')
    t.sh('setfacl -m u:7:r d', cwd=u.mnt)
    os.lchown(u.m('e'), 7, 8)
    u.umount()
    t.eq(lines(u.upper, *u.lowers),
         ['changed  a (mode 0644 -> 4711, owner 0:0 -> 7:8)', 'changed  b (times)',
          'changed  c (xattrs +user.new ~user.x -user.z)', 'changed  d (xattrs +system.posix_acl_access)',
          'changed  e (owner 0:0 -> 7:8)'])


@test(identities=('root',))
def the_kernels(t):
    """An upper that the kernel's overlayfs has written."""
    u = t.union(text=LOWER)
    with by_kernel(u, 'redirect_dir=on', 'metacopy=on', 'index=on') as m:
        t.sh(CHANGE, cwd=m)
        after = tree.snapshot(m)
    t.eq(len(lines(u.upper, *u.lowers)), 14)
    explains(t, u.lowers, u.upper, after)


@test(identities=('root',), needs=('fuse-overlayfs',))
def those_of_fuse_overlayfs(t):
    """An upper that fuse-overlayfs has written."""
    u = t.union(text=LOWER)
    t.sh('fuse-overlayfs -o lowerdir=%s,upperdir=%s,workdir=%s %s' % (u.lowers[0], u.upper, u.work, u.mnt))
    try:
        t.sh(CHANGE, cwd=u.mnt)
        after = tree.snapshot(u.mnt)
    finally:
        t.sh('fusermount3 -u %s' % u.mnt)
    explains(t, u.lowers, u.upper, after)


@test()
def every_whiteout(t):
    """Names as marks, attributes as marks, opaque directories of each kind, read as the daemon reads them."""
    u = t.union(text='f a 1; f b 1; f c 1; f d/x 1; f e/x 1; f f/x 1; f g/x 1')
    u.put('wh a; xw b; woq d; f d/new 1; o e; f e/new 1; wh f; d f; f g/.wh.x x', 'upper')
    u.check_layers = False
    u.mount()
    after = tree.snapshot(u.mnt)
    u.umount()
    explains(t, u.lowers, u.upper, after)


@test()
def metacopy_and_data_layers(t):
    """Data in a lower or in a data-only layer is the same data; a changed copy of it is not."""
    u = t.union(text='f m 00000; f n hello')
    for n, v in (('metacopy', b''), ('redirect', b'/deep/data')):
        os.setxattr(u.low('m'), '%s.overlay.%s' % (t.ns, n), v)
    os.makedirs(t.dir + '/data/deep')
    tree.write(t.dir + '/data/deep/data', 'hello')
    u.data = [t.dir + '/data']
    u.mount()
    os.chmod(u.m('m'), 0o600)
    os.chmod(u.m('n'), 0o600)
    u.umount()
    opts = ['--data', t.dir + '/data'] + ([] if t.root else ['--userxattr'])
    t.eq(lines(*opts, u.upper, *u.lowers),
         ['changed  m (mode 0644 -> 0600)', 'changed  n (mode 0644 -> 0600)'])
    u.mount()
    tree.write(u.m('m'), 'jello')
    os.utime(u.m('m'), ns=(1, os.stat(u.low('m')).st_mtime_ns))
    u.umount()
    t.eq(lines(*opts, u.upper, *u.lowers)[0], 'changed  m (content, mode 0644 -> 0600)')


def at_random(t, spec, opts, seeds, *feats):
    o = oracle()
    for seed in seeds:
        where = os.path.join(t.dir, 'r%d' % seed)
        u = RandomUnion(o, where, spec, seed, opts, feats=('special', 'xattr', 'own', 'tmpfile') + feats)
        after = tree.snapshot(u.mnt)
        u.umount()
        explains(t, u.lowers, u.upper, after, 'seed %d, %s: %s' % (seed, where, ' ; '.join(map(' '.join, u.done))))
        shutil.rmtree(where)


@test(identities=('root',), timeout=180)
def random_unions(t):
    """75 unions from the differential generator, changed through the daemon."""
    at_random(t, t.binary + ' -f', [], range(1000, 1050))
    at_random(t, t.binary + ' -f', ['index=off'], range(1050, 1075), 'hardlinks')


@test(identities=('root',), timeout=180)
def random_unions_of_the_kernel(t):
    """The same by the kernel's overlayfs, with and without redirects."""
    at_random(t, 'kernel', ['redirect_dir=on', 'metacopy=on', 'index=on'], range(1000, 1030))
    at_random(t, 'kernel', ['redirect_dir=off', 'metacopy=off', 'index=off'], range(1030, 1050), 'hardlinks')
