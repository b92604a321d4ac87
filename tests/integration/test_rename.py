# SPDX-License-Identifier: GPL-2.0-or-later
"""rename(2) and renameat2(2): whiteouts left, merged directories with and without redirects, flags, errors."""
import errno
import os

from lib import k, test, tree


@test(everywhere=True)
def lower_file(t):
    """A moved lower file leaves a whiteout and an upper copy with everything it had."""
    u = t.union(text='f a hello 640; x a user.k v; t a 1234567890123456789; d d; l l tgt; p p')
    want = tree.snapshot(u.low())
    u.mount()
    inos = {n: os.lstat(u.m(n)).st_ino for n in 'alp'}
    for n in 'alp':
        os.rename(u.m(n), u.m('d/' + n))
        t.ok(tree.is_whiteout(u.up(n)), n)
        t.eq(os.lstat(u.m('d/' + n)).st_ino, inos[n], 'inode number of ' + n)
    t.eq(tree.names(u.mnt), ['d'])
    for again in range(2):
        got = tree.snapshot(u.m('d'))
        for n in 'alp':
            t.eq(got[n], want[n], n)
        u.remount()


@test()
def over_something(t):
    """Over an upper, a lower and a whited-out name; over itself; over another link of itself."""
    u = t.mounted('f low1 one; f low2 two; f gone x; f h hard; f keep k')
    os.unlink(u.m('gone'))
    tree.write(u.m('up'), 'up')
    os.rename(u.m('low1'), u.m('low2'))
    t.eq(tree.text(u.m('low2')), 'one')
    os.rename(u.m('up'), u.m('keep'))
    t.eq(tree.text(u.m('keep')), 'up')
    t.ok(not tree.exists(u.up('up')), 'a whiteout with nothing below')
    os.rename(u.m('low2'), u.m('gone'))
    os.rename(u.m('gone'), u.m('gone'))
    os.link(u.m('h'), u.m('h2'))
    os.rename(u.m('h'), u.m('h2'))
    t.eq(tree.names(u.mnt), ['gone', 'h', 'h2', 'keep'])
    u.remount()
    t.eq(tree.names(u.mnt), ['gone', 'h', 'h2', 'keep'])
    t.eq(tree.text(u.m('gone')), 'one')


@test(everywhere=True)
def directories(t):
    """Pure upper and opaque ones move; so do lower and merged ones, by a redirect. Without redirects these
    give EXDEV and change nothing."""
    for opts in ((), ('redirect_dir=off',), ('redirect_dir=follow',), ('redirect_dir=nofollow',)):
        _directories(t, *opts)


def _directories(t, *opts):
    u = t.union(lowers=2, text='f low/x 1; f m/x 1; f gone/x 1; d target; f full/x 1')
    u.put('f m/y 1', 1)
    u.mount(*opts)
    before = tree.snapshot(u.upper)
    for d, names in (('low', ['x']), ('m', ['x', 'y'])):
        if opts:
            t.fails(errno.EXDEV, os.rename, u.m(d), u.m('new'))
            t.fails(errno.EXDEV, os.rename, u.m(d), u.m('target/new'))
            t.fails(errno.EXDEV, k.rename2, u.m(d), u.m('target'), k.RENAME_EXCHANGE)
            continue
        os.rename(u.m(d), u.m('new'))
        t.eq((tree.names(u.m('new')), tree.names(u.up('new'))), (names, []))
        os.rename(u.m('new'), u.m('target/new'))
        k.rename2(u.m('target/new'), u.m('full'), k.RENAME_EXCHANGE)
        t.eq((tree.names(u.m('full')), tree.names(u.m('target/new'))), (names, ['x']))
        k.rename2(u.m('target/new'), u.m('full'), k.RENAME_EXCHANGE)
        os.rename(u.m('target/new'), u.m(d))
        t.eq((tree.names(u.m(d)), tree.names(u.m('full')), tree.names(u.m('target'))), (names, ['x'], []))
        t.fails(errno.ENOENT, os.lstat, u.m('new'))
    if opts:
        t.same_tree(before, tree.snapshot(u.upper), 'EXDEV changed the upper')
    t.sh('mkdir up; echo 1 > up/f; rm -r gone; mkdir gone; echo 2 > gone/g', cwd=u.mnt)
    os.rename(u.m('up'), u.m('up2'))
    os.rename(u.m('gone'), u.m('moved'))        # opaque
    t.eq(tree.names(u.m('moved')), ['g'])
    t.fails(errno.ENOENT, os.lstat, u.m('gone'))
    os.rename(u.m('up2'), u.m('low/in'))        # into a lower directory
    os.rename(u.m('moved'), u.m('target'))      # over an empty lower directory
    t.fails(errno.ENOTEMPTY, os.rename, u.m('low/in'), u.m('full'))
    t.eq(tree.names(u.m('target')), ['g'])
    t.eq(tree.names(u.m('low')), ['in', 'x'])
    u.remount()
    t.eq(tree.names(u.m('target')), ['g'])
    t.eq(tree.text(u.m('low/in/f')), '1\n')
    t.eq((tree.names(u.m('low')), tree.names(u.m('m'))), (['in', 'x'], ['x', 'y']))
    t.fails(errno.ENOENT, os.lstat, u.m('gone'))
    u.umount()


@test()
def directory_does_not_merge_where_it_lands(t):
    """An upper directory renamed over a whited-out directory does not show what was below."""
    u = t.mounted('f d/old 1; f e/old 1')
    t.sh('rm -r d e; mkdir n o; echo 1 > n/new', cwd=u.mnt)
    os.rename(u.m('n'), u.m('d'))
    os.rename(u.m('o'), u.m('e'))
    for _ in range(2):
        t.eq((tree.names(u.m('d')), tree.names(u.m('e'))), (['new'], []))
        u.remount()


@test()
def mv_of_a_lower_directory(t):
    """mv(1) renames, or copies what rename refuses with EXDEV; nothing is lost and the source is gone."""
    for opts in ((), ('redirect_dir=off',)):
        _mv(t, *opts)


def _mv(t, *opts):
    u = t.union(text='f d/a 1; f d/s/b 2; l d/l a; h d/h d/a; t d/a 1500000000123456789')
    u.mount(*opts)
    t.sh('mv d e', cwd=u.mnt)
    t.eq(tree.names(u.up('e')), ['a', 'h', 'l', 's'] if opts else [])
    t.fails(errno.ENOENT, os.lstat, u.m('d'))
    t.eq(sorted(tree.walk(u.m('e'))), ['.', 'a', 'h', 'l', 's', 's/b'])
    t.eq(os.stat(u.m('e/a')).st_mtime_ns, 1500000000123456789)
    u.remount()
    t.eq(tree.names(u.mnt), ['e'])
    t.eq((tree.text(u.m('e/h')), tree.text(u.m('e/s/b'))), ('1', '2'))
    u.umount()


@test()
def emptied_directory_as_target(t):
    """A directory over a merged one that holds only whiteouts; over a non-empty one ENOTEMPTY."""
    u = t.mounted('f d/x 1; f e/x 1')
    os.unlink(u.m('d/x'))
    os.mkdir(u.m('n'))
    tree.write(u.m('n/in'), '1')
    os.rename(u.m('n'), u.m('d'))
    t.eq(tree.names(u.m('d')), ['in'])
    t.fails(errno.ENOTEMPTY, os.rename, u.m('d'), u.m('e'))
    u.remount()
    t.eq(tree.names(u.m('d')), ['in'])


@test(everywhere=True)
def noreplace(t):
    u = t.mounted('f a 1; f b 2; f gone 3; d d')
    tree.write(u.m('up'), 'up')
    os.unlink(u.m('gone'))
    for src in ('a', 'up'):
        for dst in ('b', 'd'):
            t.fails(errno.EEXIST, k.rename2, u.m(src), u.m(dst), k.RENAME_NOREPLACE)
    t.eq(tree.names(u.upper), ['gone', 'up'], 'a refused NOREPLACE copied something')
    k.rename2(u.m('a'), u.m('gone'), k.RENAME_NOREPLACE)
    k.rename2(u.m('up'), u.m('d/up'), k.RENAME_NOREPLACE)
    t.eq((tree.text(u.m('gone')), tree.text(u.m('d/up'))), ('1', 'up'))


@test(everywhere=True)
def exchange(t):
    """Files of any layers, files with directories; a missing target is ENOENT."""
    for opts in ((), ('redirect_dir=off',)):
        _exchange(t, *opts)


def _exchange(t, *opts):
    u = t.mounted('f a A; f b B; l l L; f d/x 1', *opts)
    tree.write(u.m('up'), 'U')
    os.mkdir(u.m('ud'))
    k.rename2(u.m('a'), u.m('b'), k.RENAME_EXCHANGE)
    k.rename2(u.m('a'), u.m('up'), k.RENAME_EXCHANGE)
    k.rename2(u.m('l'), u.m('ud'), k.RENAME_EXCHANGE)
    t.fails(errno.ENOENT, k.rename2, u.m('a'), u.m('no'), k.RENAME_EXCHANGE)
    if opts:
        t.fails(errno.EXDEV, k.rename2, u.m('a'), u.m('d'), k.RENAME_EXCHANGE)
        t.fails(errno.EXDEV, k.rename2, u.m('d'), u.m('a'), k.RENAME_EXCHANGE)
    else:
        k.rename2(u.m('a'), u.m('d'), k.RENAME_EXCHANGE)
    a, d = ('a', 'd') if opts else ('d', 'a')
    for _ in range(2):
        t.eq((tree.text(u.m(a)), tree.text(u.m('b')), tree.text(u.m('up'))), ('U', 'A', 'B'))
        t.eq((os.readlink(u.m('ud')), tree.names(u.m('l'))), ('L', []))
        t.eq(tree.text(u.m(d + '/x')), '1')
        u.remount()
    u.umount()


@test()
def whiteout_flag_is_refused(t):
    u = t.mounted('f a 1')
    tree.write(u.m('up'), '1')
    for n in ('a', 'up'):
        t.fails(errno.EINVAL, k.rename2, u.m(n), u.m('n'), k.RENAME_WHITEOUT)
    t.fails(errno.EINVAL, k.rename2, u.m('a'), u.m('up'), k.RENAME_EXCHANGE | k.RENAME_NOREPLACE)
    t.eq(tree.names(u.upper), ['up'])


@test()
def errors(t):
    """Kinds over kinds, into itself, missing names: the errno of the plain file system."""
    def action(d):
        out = []
        names = ('f', 'g', 'e', 'full', 'e/sub', 'full/x', 'missing', 'missing/x', 'f/x', 'l')
        for a in names:
            for b in names:
                if a == b or {a, b} & {'l'} and {a, b} & {'f', 'g'}:
                    continue
                if a in ('f', 'g', 'l', 'full/x') and b in ('g', 'f', 'l', 'full/x', 'missing', 'e/sub'):
                    continue            # would succeed and change the rest
                try:
                    os.rename(d + '/' + a, d + '/' + b)
                    out.append((a, b, 'ok'))
                    os.rename(d + '/' + b, d + '/' + a)
                except OSError as e:
                    out.append((a, b, errno.errorcode[e.errno]))
        return out
    want = 'f f 1; f g 2; d e; f full/x 1; l l f'
    got = t.as_plain(action, want)
    t.ok(len(got) > 20)


@test()
def open_directory_follows(t):
    """getcwd and names through a directory descriptor after its rename and removal."""
    u = t.mounted('f low/x 1')
    os.mkdir(u.m('d'))
    fd = os.open(u.m('d'), os.O_RDONLY)
    os.chdir(u.m('d'))
    os.rename(u.m('d'), u.m('e'))
    t.eq(os.getcwd(), u.m('e'))
    tree.write('f', 'x')
    os.close(os.open('g', os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    t.eq(tree.names(u.m('e')), ['f', 'g'])
    os.unlink('f')
    os.unlink('g')
    os.rmdir(u.m('e'))
    t.fails(errno.ENOENT, os.getcwd)
    os.chdir(t.dir)
    os.close(fd)


@test()
def in_a_storm(t):
    """Two processes rename the same names back and forth; every name is always there or away,
    and never both; the end state is right."""
    u = t.mounted('; '.join('f d/n%d %d' % (i, i) for i in range(10)))
    os.mkdir(u.m('e'))
    pids = []
    for who in range(2):
        pid = os.fork()
        if pid == 0:
            for _ in range(150):
                for i in range(10):
                    a, b = u.m('d/n%d' % i), u.m('e/n%d' % i)
                    try:
                        os.rename(*((a, b) if who else (b, a)))
                    except FileNotFoundError:
                        pass
            os._exit(0)
        pids.append(pid)
    for p in pids:
        t.eq(os.waitpid(p, 0)[1], 0)
    names = tree.names(u.m('d')) + tree.names(u.m('e'))
    t.eq(sorted(names), sorted('n%d' % i for i in range(10)))
    for d in 'de':
        for n in os.listdir(u.m(d)):
            t.eq(tree.text(u.m('%s/%s' % (d, n))), n[1:])
