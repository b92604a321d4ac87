# SPDX-License-Identifier: GPL-2.0-or-later
"""The merged view of layers nobody changes: merge rules, kinds, listings, attributes."""
import errno
import os
import random
import stat

from lib import k, test, tree


def _kind(e):
    return {4: 'd', 8: 'f', 10: 'l', 1: 'p', 12: 's', 2: 'c', 6: 'b'}.get(e, '?')


@test(everywhere=True)
def three_layers_merge(t):
    """A over B over C: same-named files and subdirectories."""
    u = t.union(lowers=3)
    u.put('f same A; f a A; f d/same A; f d/a A; d only_a')
    u.put('f same B; f b B; f d/same B; f d/b B; f d/deep/b B', 1)
    u.put('f same C; f c C; f d/same C; f d/c C; f d/deep/c C; f d/b C', 2)
    u.mount()
    t.eq(tree.names(u.m()), ['a', 'b', 'c', 'd', 'only_a', 'same'])
    t.eq(tree.names(u.m('d')), ['a', 'b', 'c', 'deep', 'same'])
    t.eq(tree.names(u.m('d/deep')), ['b', 'c'])
    for p, want in (('same', 'A'), ('d/same', 'A'), ('d/b', 'B'), ('d/c', 'C'), ('d/deep/c', 'C')):
        t.eq(tree.text(u.m(p)), want, p)


@test()
def which_object_wins(t):
    """Section 2.1: the table of kinds over kinds."""
    u = t.union(lowers=2)
    u.put('f file_any/x 1; f file_file 1; d dir_none_dir; f gap/l1 1; f stop 1; d opq_upper/l1; '
          'f lopq/l1 1; d wh_mid; f sym_dir/x 1; w low_wh; f dir_over_file 1')
    u.put('f dir_none_dir/l2 1; f stop/l2 1; f opq_upper/l2 1; f lopq/l2 1; f wh_mid/l2 1; '
          'f low_wh 1; w lowest_wh; f gap2/l2 1', 1)
    u.put('f file_any up; f file_file up; f dir_none_dir/up 1; f stop/up 1; o opq_upper; '
          'f lopq/up 1; l sym_dir dir_none_dir; f gap2/up 1; f dir_over_file/up 1', 'upper')
    os.setxattr(u.low('lopq'), t.ns + '.overlay.opaque', b'y')
    os.rmdir(u.low('wh_mid'))
    u.put('w wh_mid')
    os.mkdir(u.up('wh_mid'))
    u.mount()
    t.eq(tree.text(u.m('file_any')), 'up')
    t.eq(tree.text(u.m('file_file')), 'up')
    t.eq(tree.names(u.m('dir_none_dir')), ['l2', 'up'], 'a layer without the name does not matter')
    t.eq(tree.names(u.m('gap2')), ['l2', 'up'])
    t.eq(tree.names(u.m('stop')), ['up'], 'merging ends at the first non-directory')
    t.eq(tree.names(u.m('opq_upper')), [])
    t.eq(tree.names(u.m('lopq')), ['l1', 'up'], 'opaque in a lower ends there')
    t.eq(tree.names(u.m('wh_mid')), [], 'a whiteout in a middle layer ends the merge')
    t.eq(os.readlink(u.m('sym_dir')), 'dir_none_dir')
    t.eq(tree.names(u.m('dir_over_file')), ['up'])
    for n in ('low_wh', 'lowest_wh'):
        t.fails(errno.ENOENT, os.lstat, u.m(n))
        t.ok(n not in os.listdir(u.m()), n)
    u.umount()


@test(everywhere=True)
def every_kind(t):
    """Types, modes, owners, sizes, targets and times are those of the layer."""
    u = t.union(text='f f hello 640; d d 2751; l l f; l dangling nowhere/at/all; p p; s s; '
                     't f 1234567890123456789; t l 1111111111222222222; t p 1000000000000000001; t d 5')
    if t.root:
        u.put('c c 1:3; b b 7:9; b zero 0:0; u f 12 34; u l 56 78; u c 1 2')
    want = tree.snapshot(u.low())
    u.mount()
    got = tree.snapshot(u.mnt)
    del want['.'], got['.']             # the root is the upper's
    t.same_tree(want, got, 'the view of a single lower')
    types = {n: _kind(ty) for _, ty, n in k.listing(u.mnt)}
    for n in tree.names(u.low()):
        mode = os.lstat(u.low(n)).st_mode
        t.eq(types[n], {stat.S_IFREG: 'f', stat.S_IFDIR: 'd', stat.S_IFLNK: 'l', stat.S_IFIFO: 'p',
                        stat.S_IFSOCK: 's', stat.S_IFCHR: 'c', stat.S_IFBLK: 'b'}[stat.S_IFMT(mode)], n)
    st, low = os.stat(u.m('f')), os.stat(u.low('f'))
    t.eq((st.st_size, st.st_nlink, st.st_atime_ns), (low.st_size, 1, low.st_atime_ns))
    t.eq(st.st_blocks, low.st_blocks, 'blocks')


@test(everywhere=True)
def listing_agrees_with_lookup(t):
    """d_ino and d_type are those of stat, `.` and `..` are there, and what is not listed is not found."""
    rng = random.Random(7)
    u = t.union(lowers=4)
    universe = ['n%d' % i for i in range(40)]
    for i in range(5):
        layer = 'upper' if i == 4 else i
        for n in rng.sample(universe, 22):
            kind = rng.choice(['f', 'd', 'l', 'w', 'sub', 'xw', 'o'] + (['wh'] if i < 4 else []))
            if kind == 'sub':
                u.put('f %s/inner%d 1' % (n, i), layer)
            elif kind == 'l':
                u.put('l %s target' % n, layer)
            else:
                u.put('%s %s' % (kind, n), layer)
    u.mount()
    dirs = ['.'] + [n for n in universe if os.path.isdir(u.m(n)) and not os.path.islink(u.m(n))]
    for d in dirs:
        entries = k.listing(u.m(d))
        names = [n for _, _, n in entries]
        t.eq(len(names), len(set(names)), 'a name twice in ' + d)
        t.ok('.' in names and '..' in names, 'dots in ' + d)
        for ino, typ, n in entries:
            st = os.lstat(os.path.join(u.m(d), n))
            if d != '.' or n != '..':
                t.eq(ino, st.st_ino, 'd_ino of %s/%s' % (d, n))
            t.eq(typ, stat.S_IFMT(st.st_mode) >> 12, 'd_type of %s/%s' % (d, n))
        for n in universe + ['.wh.' + x for x in universe] + ['inner%d' % i for i in range(5)]:
            found = tree.exists(os.path.join(u.m(d), n))
            t.eq(found, n in names, 'lookup and listing of %s/%s' % (d, n))
    inos = {}
    for rel in tree.walk(u.mnt):
        st = os.lstat(u.m(rel))
        t.ok(inos.setdefault(st.st_ino, rel) == rel, 'inode number of %s and %s' % (rel, inos[st.st_ino]))


@test()
def directory_attributes(t):
    """Those of the topmost directory; st_nlink 1 if merged, the real one if a single layer has it."""
    u = t.union(lowers=2)
    u.put('d d 750; f d/x 1; d one/a; d one/b; x d user.k top; t d 1500000000000000005')
    u.put('d d 700; f d/y 1; x d user.l low', 1)
    u.mount()
    st = os.stat(u.m('d'))
    t.eq((stat.S_IMODE(st.st_mode), st.st_mtime_ns, st.st_nlink), (0o750, 1500000000000000005, 1))
    t.eq({n: v for n, v in tree.xattrs(u.m('d')).items() if n.startswith('user.')}, {'user.k': b'top'})
    t.eq(os.stat(u.m('one')).st_nlink, os.stat(u.low('one')).st_nlink, 'nlink of a single directory')
    t.eq(os.stat(u.mnt).st_nlink, 1, 'nlink of the root')


@test()
def without_upper(t):
    """No upper: read-only, one lower is enough, every change EROFS."""
    for lowers in (1, 2):
        u = t.union(lowers=lowers, upper=False, text='f a 1; f d/x 1; l l a')
        if lowers == 2:
            u.put('f d/y 2', 1)
        u.mount()
        t.eq(tree.names(u.m('d')), ['x', 'y'][:lowers])
        t.eq(tree.text(u.m('l')), '1')
        t.ok(os.statvfs(u.mnt).f_flag & os.ST_RDONLY, 'statvfs does not say read-only')
        m = u.m
        for fn, args in ((os.mkdir, (m('n'),)), (os.unlink, (m('a'),)), (os.chmod, (m('a'), 0o600)),
                         (os.rename, (m('a'), m('b'))), (os.symlink, ('x', m('n'))),
                         (os.rmdir, (m('d'),)), (os.link, (m('a'), m('b'))), (os.truncate, (m('a'), 0)),
                         (os.utime, (m('a'), (1, 1))), (os.mkfifo, (m('n'),)),
                         (os.open, (m('a'), os.O_RDWR)), (os.open, (m('n'), os.O_CREAT | os.O_WRONLY)),
                         (os.setxattr, (m('a'), 'user.k', b'v')), (os.chown, (m('a'), 1, 1))):
            t.fails(errno.EROFS, fn, *args)
        u.umount()


@test()
def read_only_asked_for(t):
    """`ro` with an upper: nothing may be changed, the upper's content is seen."""
    u = t.union(text='f a 1')
    u.put('f b 2', 'upper')
    u.mount('ro')
    t.eq(tree.names(u.mnt), ['a', 'b'])
    t.fails(errno.EROFS, os.mkdir, u.m('n'))
    t.fails(errno.EROFS, tree.append, u.m('a'), 'x')


@test()
def statfs(t):
    u = t.mounted('f a 1')
    a, b = os.statvfs(u.mnt), os.statvfs(u.upper)
    t.eq((a.f_bsize, a.f_blocks, a.f_files, a.f_namemax), (b.f_bsize, b.f_blocks, b.f_files, b.f_namemax))
    t.eq(os.statvfs(u.m('a')).f_blocks, b.f_blocks)


@test()
def statx_birth_time(t):
    """The birth time of the layer's object, where the file system has one."""
    u = t.union(text='f a 1; d d')
    low = k.statx(u.low('a'))
    if not low['btime']:
        t.skip('this file system has no birth time')
    u.mount()
    t.eq(k.statx(u.m('a'))['btime'], low['btime'], 'lower file')
    t.eq(k.statx(u.m('d'))['btime'], k.statx(u.low('d'))['btime'], 'lower directory')
    tree.write(u.m('new'), 'x')
    t.eq(k.statx(u.m('new'))['btime'], k.statx(u.up('new'))['btime'], 'new file')


@test(identities=('root',), everywhere=True)
def lower_atime_is_left_alone(t):
    """Reading a file, a directory and a symlink of a lower does not touch their atime."""
    u = t.union(text='f d/a hello; l d/l a')
    paths = [u.low(p) for p in ('', 'd', 'd/a', 'd/l')]
    for p in paths:             # older than mtime, so that relatime would update it
        os.utime(p, ns=(10**18, 2 * 10**18), follow_symlinks=False)
    u.check_lowers = False
    u.mount()
    t.eq(tree.text(u.m('d/a')), 'hello')
    os.readlink(u.m('d/l'))
    os.listdir(u.m('d'))
    os.listdir(u.m())
    u.umount()
    t.eq([os.lstat(p).st_atime_ns for p in paths], [10**18] * 4)


@test()
def reading_changes_no_upper(t):
    """Looking at everything leaves an upper of plain files as it was (marks of merging apart)."""
    u = t.union(text='f d/a hello; l l a; f e/x 1')
    u.put('f mine/b 1; f d/c 2', 'upper')
    before = tree.snapshot(u.upper)
    u.mount()
    tree.snapshot(u.mnt)
    u.umount()

    def bare(s):
        return {p: v[:5] + ([x for x in v[5] if '.overlay.' not in str(x)],) + v[6:] for p, v in s.items()}
    t.same_tree(bare(before), bare(tree.snapshot(u.upper)))


@test()
def symlinks_are_not_followed_inside_layers(t):
    """A symlink where another layer has a directory ends the merge; absolute targets stay outside."""
    u = t.union(lowers=2)
    u.put('l d /etc; l up ../..')
    u.put('f d/x 1; f up/y 1', 1)
    u.mount()
    t.eq(os.readlink(u.m('d')), '/etc')
    t.eq(os.readlink(u.m('up')), '../..')
    t.eq(sorted(n for n in os.listdir(u.mnt)), ['d', 'up'])


@test(identities=('root', 'user'))
def names_of_every_byte(t):
    """Names are bytes; only `/` and NUL are special."""
    names = [bytes([b]) * 2 for b in range(1, 256) if b != 0x2f and b != 0x2e]
    names += ['äöü€'.encode(), b'a b\n\t*?[', b'\xff\xfe', b'...', b'.wx.']
    u = t.union()
    for n in names[::2]:
        tree.write(os.path.join(os.fsencode(u.low()), n), n)
    u.mount()
    base = os.fsencode(u.mnt)
    for n in names[1::2]:
        tree.write(os.path.join(base, n), n)
    for again in range(2):
        t.eq(sorted(os.listdir(base)), sorted(set(names)))
        for n in names:
            t.eq(tree.read(os.path.join(base, n)), n)
        u.remount()
