# SPDX-License-Identifier: GPL-2.0-or-later
"""`fuse-unionfs-layer check`: nothing after a clean unmount, each fault that is planted, and what mends which."""
import json
import os
import shutil

from lib import test, tree
from lib.layertool import RandomUnion, oracle, tool
from lib.overlay import by_kernel, index_entries

LOWER = 'f a 1; f b 22; d d; f d/x 1; f d/y 1; d e; f e/z 1; f h1 links; h h2 h1; f gone 1'


def check(u, *opts, lowers=True, status=(0, 1)):
    """{(kind, place/path)} of what is found."""
    args = [*opts, '--json', '--work', u.work, u.upper] + (u.lowers if lowers else [])
    if u.t.root is False:
        args.insert(0, '--userxattr')
    out = tool('check', *args, status=status)
    return sorted((f['kind'], f['place'] + '/' + f['path']) for f in json.loads(out)['findings'])


def put_mark(u, rel, name, value):
    os.setxattr(u.up(rel), '%s.overlay.%s' % (u.t.ns, name), value, follow_symlinks=False)


def get_mark(u, rel, name):
    try:
        return os.getxattr(u.up(rel), '%s.overlay.%s' % (u.t.ns, name), follow_symlinks=False)
    except OSError:
        return None


def used(t, *opts):
    """A union that was used for all there is, and unmounted."""
    u = t.mounted(LOWER, *opts)
    u.check_layers = False      # .wh.file
    t.sh('chmod 600 a; printf 3 >> b; mv d d2; mv e/z d2/z; rm gone; mkdir gone; printf n > gone/n; rm -r e; '
         'chmod 600 h1; printf w > .wh.file', cwd=u.mnt)
    u.umount()
    return u


@test(everywhere=True)
def clean(t):
    """After a clean unmount there is nothing to say, with lowers and without; the exit status is 0."""
    u = used(t)
    t.eq(check(u, status=0), [])
    t.eq(check(u, lowers=False, status=0), [])


@test()
def nothing_is_changed(t):
    """Looking leaves layers and workdir as they were, in an upper that no mount has seen as well; for root even the times
    of access."""
    u = used(t)
    v = t.union(name='new', text='f a 1')

    paths = [x.root + '/' + p for x in (u, v) for p in tree.walk(x.root) if not p.startswith('mnt')]
    before = {p: tree.describe(p) for p in paths}
    layers = [p for p in paths if '/upper' in p or '/l1' in p]
    for p in layers:
        os.utime(p, ns=(1, before[p][4]), follow_symlinks=False)
    for x in (u, v):
        check(x)
        tool('diff', *([] if t.root else ['--userxattr']), '--content', x.upper, *x.lowers, status=(0, 1))
    if t.root:
        t.eq([p for p in layers if os.lstat(p).st_atime_ns != 1], [])
    t.eq([x.root + '/' + p for x in (u, v) for p in tree.walk(x.root) if not p.startswith('mnt')], paths)
    after = {p: tree.describe(p) for p in paths}
    t.eq({p: (before[p], after[p]) for p in paths if before[p] != after[p]}, {})


@test(identities=('root',))
def clean_by_the_kernel(t):
    """The same for what the kernel's overlayfs leaves."""
    for n, opts in enumerate((('redirect_dir=on', 'metacopy=on', 'index=on'), ('redirect_dir=on', 'nfs_export=on'),
                              ('redirect_dir=off',))):
        u = t.union(text=LOWER, name='k%d' % n)
        with by_kernel(u, *opts) as m:
            t.sh('chmod 600 a; printf 3 >> b; mv d d2 || :; rm -f gone; mkdir gone; printf n > gone/n; rm -r e; '
                 'chmod 600 h1', cwd=m, check=False)
        t.eq(check(u, status=0), [], opts)


@test()
def redirects(t):
    """Leading nowhere, to where it is itself, where another leads, where something still is; and no redirect at all."""
    u = t.union(text='d a/b; f a/b/x 1; d c; d d; d e')
    for d, to in (('dangling', b'nothing'), ('two', b'/c'), ('twice', b'c'), ('there', b'd'), ('bad', b'a/b'),
                  ('a/b', b'/a'), ('slashes', b'/a//b')):
        os.makedirs(u.up(d))
        put_mark(u, d, 'redirect', to)
    u.put('w c', 'upper')
    # One that was never a directory's says nothing.
    tree.write(u.up('file'), '')
    put_mark(u, 'file', 'redirect', b'nothing')
    t.eq(check(u, status=1),
         [('redirect-dangling', 'upper/dangling'), ('redirect-invalid', 'upper/bad'),
          ('redirect-invalid', 'upper/slashes'), ('redirect-loop', 'upper/a/b'), ('redirect-twice', 'upper/there'),
          ('redirect-twice', 'upper/two')])
    t.eq(check(u, lowers=False), [])


@test()
def data(t):
    """Metacopy files without data, with a mark that is none, and with a size that is not that of their data."""
    u = t.union(text='f a hello; f b hello; f c hello')
    for n, size, v in (('a', 5, b''), ('b', 3, b''), ('c', 5, b'\7'), ('none', 5, b'')):
        tree.write(u.up(n), '')
        os.truncate(u.up(n), size)
        put_mark(u, n, 'metacopy', v)
    t.eq(check(u, status=1), [('metacopy-invalid', 'upper/c'), ('metacopy-no-data', 'upper/none'),
                              ('metacopy-size', 'upper/b')])
    os.makedirs(t.dir + '/data')
    tree.write(t.dir + '/data/there', 'hello')
    for n in ('there', 'missing'):
        os.symlink('x', u.up(n + '-link'))
        tree.write(u.up(n), '')
        os.truncate(u.up(n), 5)
        put_mark(u, n, 'metacopy', b'')
        put_mark(u, n, 'redirect', b'/' + n.encode())
    found = check(u, '--data', t.dir + '/data', status=1)
    t.eq([p for k, p in found if k == 'metacopy-no-data'], ['upper/missing', 'upper/none'])


@test(identities=('root',))
def origins(t):
    """One that is no handle, one of a file on a directory, of another directory than it is merged with; and without
    the mark on the directory. What lies is taken away, and what is missing set, which says what is so."""
    u = used(t)
    origin = get_mark(u, 'a', 'origin')
    of_dir = get_mark(u, 'd2', 'origin')
    put_mark(u, 'a', 'origin', b'nonsense')
    put_mark(u, 'gone', 'origin', origin)
    t.sh('mkdir %s/other; mkdir %s/other' % (u.lowers[0], u.upper))
    put_mark(u, 'other', 'origin', of_dir)
    put_mark(u, 'gone/n', 'origin', origin)
    want = [('impure-missing', 'upper/gone'), ('origin-invalid', 'upper/a'), ('origin-lies', 'upper/gone'),
            ('origin-lies', 'upper/other')]
    t.eq(check(u, status=1), want)
    t.eq(check(u, '--repair', status=1), want)
    t.eq(check(u), [('origin-invalid', 'upper/a')])
    t.eq((get_mark(u, 'gone', 'impure'), get_mark(u, 'other', 'origin')), (b'y', None))


@test()
def whiteouts(t):
    """Of nothing, in each form; mended only in an opaque directory, where nothing can come to show through."""
    u = t.union(text='f a 1; f d/b 1; f o/b 1')
    u.put('w a; w nothing; wh none; d d; xw d/b; xw d/nil; o o; w o/b; wh o/c; f o/stays 1', 'upper')
    before = os.stat(u.up('o')).st_mtime_ns
    want = [('whiteout-of-nothing', 'upper/.wh.none'), ('whiteout-of-nothing', 'upper/d/nil'),
            ('whiteout-of-nothing', 'upper/nothing'), ('whiteout-of-nothing', 'upper/o/.wh.c'),
            ('whiteout-of-nothing', 'upper/o/b'), ('whiteout-unannounced', 'upper/d')]
    if tree.devices:
        t.eq(check(u, status=1), want)
        t.eq(check(u, '--repair', status=1), want)
        t.eq(check(u, status=1), want[:3])
    t.eq((tree.names(u.up('o')), os.stat(u.up('o')).st_mtime_ns), (['stays'], before))
    t.eq(get_mark(u, 'd', 'opaque'), b'x')


@test(identities=('root',))
def dialects(t):
    """Marks with the prefix that is not used, and marks that nobody knows; escaped ones of a nested union are in
    order."""
    u = t.union(text='d d; f f 1')
    u.put('d d; d e; o e', 'upper')
    os.setxattr(u.up('d'), 'user.overlay.opaque', b'y')
    os.setxattr(u.up('e'), 'trusted.overlay.strange', b'y')
    os.setxattr(u.up('e'), 'trusted.overlay.overlay.opaque', b'y')
    t.eq(check(u, status=1), [('mark-unknown', 'upper/e'), ('other-dialect', 'upper/d')])
    t.eq(check(u, '--userxattr', status=1), [('other-dialect', 'upper/e')])


@test()
def work(t):
    """What is left in work/ and index/ goes, what a volatile mount says stays; a mount works then."""
    u = used(t)
    os.chmod(u.work + '/work', 0o700)
    tree.build(u.work + '/work', 'f #1a2f data; d #dead/in/deep; f #dead/in/deep/f 1', t.ns)
    want = [('work-leftover', 'work/#1a2f'), ('work-leftover', 'work/#dead')]
    if index_entries(u):
        os.chmod(u.work + '/index', 0o700)
        tree.write(u.work + '/index/#77', '')
        want = [('index-leftover', 'index/#77')] + want
    t.eq(check(u, status=1), want)
    t.eq(check(u, '--repair', status=0), want)
    t.eq((check(u, status=0), os.listdir(u.work + '/work')), ([], []))
    os.makedirs(u.work + '/work/incompat/volatile')
    os.makedirs(u.work + '/work/incompat/new')
    want = [('work-incompat', 'work/incompat/new'), ('work-volatile', 'work/incompat/volatile')]
    t.eq(check(u, '--repair', status=1), want)
    t.eq(check(u, status=1), want)
    shutil.rmtree(u.work + '/work/incompat')
    u.mount()


@test(identities=('root',))
def index(t):
    """An entry that nothing leads to, one whose count is wrong, one that is none; of another upper or lower."""
    u = used(t)
    entry, = index_entries(u)
    at = u.work + '/index/'
    os.chmod(at, 0o700)
    os.setxattr(at + entry, 'trusted.overlay.nlink', b'U-7')
    t.eq(check(u, status=1), [('link-count', 'index/' + entry)])
    os.setxattr(at + entry, 'trusted.overlay.nlink', b'U+many')
    t.eq(check(u, status=1), [('link-count', 'index/' + entry)])
    os.setxattr(at + entry, 'trusted.overlay.nlink', b'U+9')
    t.eq(check(u, status=1), [('link-count', 'index/' + entry)])
    os.setxattr(at + entry, 'trusted.overlay.nlink', b'U+0')
    t.eq(check(u, status=0), [])
    os.unlink(u.up('h1'))
    os.setxattr(at + entry, 'trusted.overlay.nlink', b'U-1')
    tree.write(at + 'readme', 'x')
    want = [('index-name', 'index/readme'), ('index-orphan', 'index/' + entry)]
    t.eq(check(u, status=1), want)
    t.eq(check(u, '--repair', status=1), want)
    t.eq(check(u), [('index-name', 'index/readme')])
    os.unlink(at + 'readme')
    v = used(t)
    shutil.rmtree(v.work)
    os.rename(u.work, v.work)
    t.ok(('index-foreign', 'index/.') in check(v, status=1), 'index of another upper')


@test()
def mounted(t):
    """While it is mounted nothing is mended, by us or by the kernel; looking is allowed, and says so."""
    u = t.mounted(LOWER)
    os.unlink(u.m('a'))
    args = ([] if t.root else ['--userxattr']) + ['--work', u.work, u.upper, *u.lowers]
    t.ok('is mounted' in tool('check', '--repair', *args, status=2))
    u.umount()
    tool('check', '--repair', *args)
    if t.root:
        with by_kernel(u):
            t.ok('is mounted' in tool('check', '--repair', *args, status=2))


@test()
def words(t):
    """Each finding is a line with its kind, its place and a sentence; and whether it can be mended."""
    u = t.union(text='f a 1; d o')
    u.put('d o; o o; wh o/x', 'upper')
    args = ([] if t.root else ['--userxattr']) + [u.upper, *u.lowers]
    t.eq(tool('check', *args, status=1).split('\n'),
         ['whiteout-of-nothing: upper/o/.wh.x: it hides nothing: its directory is opaque (can be mended)',
          '1 found, 0 mended', ''])
    t.eq(tool('check', '--repair', *args).split('\n')[0],
         'whiteout-of-nothing: upper/o/.wh.x: it hides nothing: its directory is opaque (mended)')
    t.ok('no UPPER' in tool('check', status=2))
    t.ok('no such command' in tool('mend', status=2))
    t.ok('No such file' in tool('check', t.dir + '/nowhere', status=2))


def at_random(t, spec, opts, seeds, *feats):
    o = oracle()
    for seed in seeds:
        where = os.path.join(t.dir, 'r%d' % seed)
        u = RandomUnion(o, where, spec, seed, opts, feats=('special', 'xattr', 'own', 'tmpfile', 'hardlinks') + feats)
        u.umount()
        out = tool('check', '--json', '--work', u.work, u.upper, *u.lowers, status=(0, 1))
        # The uppers that are begun with may have whiteouts of nothing.
        bad = [f for f in json.loads(out)['findings'] if f['kind'] != 'whiteout-of-nothing' or not u.began]
        t.eq(bad, [], 'seed %d, %s: %s' % (seed, where, ' ; '.join(map(' '.join, u.done))))
        shutil.rmtree(where)


@test(identities=('root',), timeout=180)
def random_unions(t):
    """50 unions from the differential generator, changed through the daemon: nothing is wrong."""
    at_random(t, t.binary + ' -f', [], range(4000, 4050))


@test(identities=('root',), timeout=180)
def random_unions_of_the_kernel(t):
    """50 that the kernel's overlayfs has changed."""
    at_random(t, 'kernel', ['redirect_dir=on', 'metacopy=on', 'index=on'], range(4000, 4025))
    at_random(t, 'kernel', ['redirect_dir=off', 'metacopy=off', 'index=off'], range(4025, 4050))


@test(identities=('root',))
def completion(t):
    """Commands and options of the tool complete in a shell."""
    here = os.path.dirname(os.path.realpath(__file__))
    out = t.run('bash', '-c', r'''
source "$1"; tool=$2
try() { COMP_WORDS=("$tool" "$@"); COMP_CWORD=$#; _fuse_unionfs_layer; echo "${COMPREPLY[*]}"; }
try d; try diff --st; try check --w; try check --re''', 'bash', here + '/../../contrib/completion.bash', os.environ['UNIONFS_LAYER'])
    t.eq(out, 'diff\n--stat\n--work=\n--repair\n')


@test(identities=('root',))
def deep(t):
    """A tree of 3,000 levels is walked through; what is deeper than 10,000 is said not to have been looked at."""
    u = t.union(text='f a 1')
    here = os.open(u.upper, os.O_PATH)
    for _ in range(3000):
        os.mkdir('d', dir_fd=here)
        below = os.open('d', os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    for n in range(7100):
        os.mkdir('d', dir_fd=here)
        below = os.open('d', os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
        if n == 0:
            t.eq(check(u, status=0), [])
            t.eq(tool('diff', '--stat', u.upper, *u.lowers, status=1).split('\n')[0], 'added    3001')
    os.close(here)
    for args in ((u.upper, *u.lowers), (u.upper,)):
        t.ok(tool('diff', '--stat', *args, status=2).endswith(': File name too long\n'))
        t.ok(tool('check', *args, status=2).endswith(': File name too long\n'))
