# SPDX-License-Identifier: GPL-2.0-or-later
"""`fuse-unionfs ctl MNT lower add|remove`: the stack changes while it is mounted."""
import os
import random
import signal
import subprocess
import time

from lib import k, test, tree
from lib.live import fresh, result, see, view, warm


def _ctl(u, *args, status=0, cwd=None):
    """stdout, or what is said on stderr with another status."""
    t = u.t
    p = subprocess.run([t.binary, 'ctl', u.mnt, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=60 * t.slow, cwd=cwd)
    t.eq(p.returncode, status, 'ctl %r: %s%s' % (args, p.stdout, p.stderr))
    return p.stderr if status else p.stdout


def _add(u, path, at=1):
    said = _ctl(u, 'lower', 'add', path, *(['at', str(at)] if at != 1 else []))
    u.t.eq(said, '')
    u.lowers.insert(at - 1, path)


def _remove(u, path):
    said = _ctl(u, 'lower', 'remove', path)
    u.lowers.remove(path)
    return said


def _lower(t, name, text):
    d = t.plain(name)
    tree.build(d, text, t.ns)
    return d


def _same(u, what=''):
    """The mount shows what a new one of the same layers does."""
    see(u, lambda: view(u.mnt), fresh(u), what)


def _mounted(t, *opts, text='f low x; f d/low x; f d/s/low x; f hidden low', **kw):
    u = t.union(lowers=2, text=text, **kw)
    tree.build(u.lowers[1], 'f low2 x; f d/low2 x; f hidden low2', t.ns)
    u.check_lowers = False
    u.mount(*opts)
    return u


@test()
def added_and_removed_anywhere(t):
    """At every place, with warm caches; a name that was missing, one that is hidden, directories that merge."""
    for opts in ((), ('cache=immutable',), ('cache=none',)):
        u = _mounted(t, *opts)
        tree.build(u.upper, 'f up x; f d/up x', t.ns)
        more = _lower(t, 'more-%d' % len(t.unions), 'f more x; f hidden more; f d/more x; f d/s/more x; f new/s/x x')
        for at in (1, 2, 3):
            warm(u, ('more', 'd/more', 'd/s/more', 'new', 'd/none'))
            _add(u, more, at)
            t.eq(result(lambda: os.stat(u.m('d/s/more')).st_size), 1)
            t.eq(result(lambda: os.stat(u.m('more')).st_size), 1)
            t.eq(tree.text(u.m('hidden')), 'more' if at == 1 else 'low')
            _same(u, '%s: added at %d' % (opts, at))
            warm(u, ('none',))
            t.eq(_remove(u, more), '')
            t.eq(result(os.stat, u.m('more')), 'ENOENT')
            t.eq(result(os.stat, u.m('new/s')), 'ENOENT')
            t.eq(tree.text(u.m('hidden')), 'low')
            _same(u, '%s: removed from %d' % (opts, at))
        u.umount()


@test()
def whiteouts_and_marks_of_it(t):
    """A lower that hides: whiteouts, an opaque directory, a file instead of a directory."""
    u = _mounted(t)
    more = _lower(t, 'more', 'w low; o d; f d/only x; f d2 file')
    tree.build(u.lowers[1], 'f d2/x x')
    warm(u)
    fd = os.open(u.m('d'), os.O_RDONLY | os.O_DIRECTORY)
    _add(u, more)
    t.eq(result(os.stat, u.m('low')), 'ENOENT')
    t.eq(tree.names(u.m('d')), ['only'])
    t.eq(tree.text(u.m('d2')), 'file')
    _same(u)
    _remove(u, more)
    t.eq(tree.names(u.m('d2')), ['x'])
    t.eq(sorted(os.listdir(fd)), ['low', 'low2', 's'])
    _same(u)
    os.close(fd)


@test()
def what_is_open_stays(t):
    """Files read on, directories go on being what their path shows; the layer is closed when nobody needs it."""
    u = _mounted(t)
    more = _lower(t, 'more', 'f f content; f low above; f d/x x; f alone/x x')
    _add(u, more)
    warm(u)
    files = {n: os.open(u.m(n), os.O_RDONLY) for n in ('f', 'low')}
    dirs = {n: os.open(u.m(n), os.O_RDONLY | os.O_DIRECTORY) for n in ('d', 'alone')}
    os.chdir(u.m('d'))
    said = _remove(u, more)
    t.eq(said, 'it stays open until what is open of it is closed\n')
    t.ok(('removed', more) in _layers_of(u), _layers_of(u))
    t.eq([os.pread(fd, 100, 0) for fd in files.values()], [b'content', b'above'])
    t.eq([os.fstat(fd).st_size for fd in files.values()], [7, 5])
    t.eq(sorted(os.listdir('.')), ['low', 'low2', 's'])
    t.eq(sorted(os.listdir(dirs['d'])), ['low', 'low2', 's'])
    t.ok(result(os.listdir, dirs['alone']) in ('ENOENT', 'ESTALE', [], ['x']))
    t.eq(result(os.stat, u.m('alone')), 'ENOENT')
    t.eq(tree.text(u.m('low')), 'x')
    os.chdir('/')
    for fd in list(files.values()) + list(dirs.values()):
        os.close(fd)
    end = time.monotonic() + 5 * t.slow
    while ('removed', more) in _layers_of(u):
        t.ok(time.monotonic() < end, 'it is still open: %s' % (_layers_of(u),))
        time.sleep(0.02)
    _same(u)


def _layers_of(u):
    out = []
    for line in _ctl(u, 'status').splitlines():
        words = line.split(None, 1)
        if len(words) == 2 and words[0] in ('upper', 'lower', 'data', 'removed') and line.startswith('  '):
            out.append((words[0], words[1].strip()))
    return out


@test()
def order_in_status(t):
    """`status` lists them from the top down, and the numbers of `lower` are those of the lowers."""
    u = _mounted(t)
    a, b, c = (_lower(t, n, 'f %s x' % n) for n in 'abc')
    _add(u, a)
    _add(u, b, 4)
    _add(u, c, 2)
    t.eq(_layers_of(u), [('upper', u.upper)] + [('lower', p) for p in u.lowers])
    _ctl(u, 'lower', 'remove', '3')
    u.lowers.pop(2)
    t.eq(_layers_of(u), [('upper', u.upper)] + [('lower', p) for p in u.lowers])
    _same(u)
    # By another way of writing it, and relative to where the command is given.
    _ctl(u, 'lower', 'remove', os.path.relpath(b, '/tmp') if b.startswith('/tmp') else b + '/.')
    u.lowers.remove(b)
    _ctl(u, 'lower', 'add', os.path.basename(b), cwd=os.path.dirname(b))
    u.lowers.insert(0, b)
    t.eq(_layers_of(u), [('upper', u.upper)] + [('lower', p) for p in u.lowers])


@test()
def refused(t):
    """One sentence each, and nothing has changed."""
    u = _mounted(t)
    more = _lower(t, 'more', 'f more x; d in')
    file = os.path.join(more, 'more')
    _add(u, more)
    before = view(u.mnt)

    def no(said, *args, status=1):
        got = _ctl(u, 'lower', *args, status=status)
        t.ok(got.startswith('fuse-unionfs: ctl: ') and said in got and got.count('\n') == 1, '%r: %s' % (args, got))
    no('is the same directory as lowerdir', 'add', more)
    no('is the same directory as upperdir', 'add', u.upper)
    no('is the same directory as workdir', 'add', u.work)
    no('lies inside lowerdir ' + more, 'add', more + '/in')
    no('contains lowerdir', 'add', os.path.dirname(more))
    no('/nowhere: No such file or directory', 'add', '/nowhere')
    no('Not a directory', 'add', file)
    no('on a file system of the kernel', 'add', '/proc')
    no('there is no place 5', 'add', t.plain('other'), 'at', '5')
    no('a number is wanted', 'add', t.plain('other2'), 'at', '0', status=2)
    no('a number is wanted', 'add', t.plain('other3'), 'at', 'x', status=2)
    no('after the path there may be', 'add', t.plain('other4'), 'on', '1', status=2)
    no('is none of the 3 lowers', 'remove', '4')
    no('is none of the 3 lowers', 'remove', '0')
    no('is none of the 3 lowers', 'remove', '/nowhere')
    no('is none of the 3 lowers', 'remove', u.upper)
    no('one word too many', 'remove', '1', '2', status=2)
    no('is neither add nor remove', 'drop', 'x', status=2)
    no('a word is missing', 'add', status=2)
    t.eq(view(u.mnt), before)
    _remove(u, u.lowers[1])
    _remove(u, u.lowers[1])
    no('is the only one', 'remove', '1')


@test()
def data_in_it(t):
    """A lower that has the data of metadata-only copies stays, whether anybody has looked at them or not."""
    u = _mounted(t, 'metacopy=on')
    more = _lower(t, 'more', 'f f content; f d/s/g content')
    _add(u, more)
    os.chmod(u.m('f'), 0o600)
    os.chmod(u.m('d/s/g'), 0o600)
    got = _ctl(u, 'lower', 'remove', more, status=1)
    if os.stat(u.upper + '/f').st_blocks:
        return          # there is no metacopy here: then it may go
    t.ok("has the data of '" in got, got)
    os.unlink(u.m('f'))
    u.umount()
    u.mount('metacopy=on')
    got = _ctl(u, 'lower', 'remove', '1', status=1)
    t.ok("has the data of '" in got and 'd/s/g' in got, got)
    tree.append(u.m('d/s/g'), '+')
    _remove(u, more)
    t.eq(tree.text(u.m('d/s/g')), 'content+')
    _same(u)


def _chmod_soon(u, names):
    """By a process of its own, which is returned."""
    pid = os.fork()
    if pid == 0:
        try:
            end = time.perf_counter() + random.random() * 0.02
            while time.perf_counter() < end:
                pass
            for n in names:
                result(os.chmod, u.m(n), 0o600)
        finally:
            os._exit(0)
    return pid


@test(timeout=120)
def data_left_in_it_as_it_goes(t):
    """A metadata-only copy that is made while its lower is removed: that stays, or the copy gets the data."""
    names = ['d/f%d' % i for i in range(40)]
    u = _mounted(t, 'metacopy=on')
    more = _lower(t, 'more', '; '.join('f %s content' % n for n in names))
    os.mkdir(u.up('d'))
    went = 0
    for i in range(120):
        _add(u, more, 2)
        for n in names:
            os.stat(u.m(n))
        pid = _chmod_soon(u, names)
        p = subprocess.run([t.binary, 'ctl', u.mnt, 'lower', 'remove', more], capture_output=True, text=True,
                           timeout=60 * t.slow)
        os.waitpid(pid, 0)
        if p.returncode == 0:
            u.lowers.remove(more)
            for n in os.listdir(u.up('d')):
                went += 1
                t.eq(result(tree.text, u.m('d/' + n)), 'content', '%s, %d' % (n, i))
        for n in os.listdir(u.up('d')):
            os.unlink(u.up('d/' + n))
        _ctl(u, 'sync')
        if p.returncode != 0:
            t.ok("has the data of '" in p.stderr, p.stderr)
            _remove(u, more)
    print('%d files were changed as it went' % went)


@test(identities=('root',), timeout=120, alone=True)
def data_left_in_it_and_forgotten(t):
    """The same, with an upper that takes long to look through, and the kernel forgets the file at once."""
    names = ['a%d/f' % i for i in range(40)]
    u = _mounted(t, 'metacopy=on')
    more = _lower(t, 'more', '; '.join('f %s content' % n for n in names))
    for n in names + ['z%d/f' % i for i in range(1500)]:
        os.mkdir(u.up(os.path.dirname(n)))
    went, lasts = 0, 0
    for i in range(30):
        _add(u, more, 2)
        n = random.choice(names)
        began = time.monotonic()
        p = subprocess.Popen([t.binary, 'ctl', u.mnt, 'lower', 'remove', more], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        time.sleep(random.random() * lasts)
        result(os.chmod, u.m(n), 0o600)
        k.drop_caches(2)
        said = p.communicate(timeout=60 * t.slow)[0]
        lasts = lasts or time.monotonic() - began
        if p.returncode == 0:
            u.lowers.remove(more)
        else:
            t.ok("has the data of '" in said, said)
        if os.path.exists(u.up(n)):
            t.eq(result(tree.text, u.m(n)), 'content', '%s, round %d, %s' % (n, i, said))
            went += p.returncode == 0
            os.unlink(u.up(n))
        _ctl(u, 'sync')
        if p.returncode:
            _remove(u, more)
    print('%d files were changed as it went, which took %.3f s' % (went, lasts))


@test()
def the_top_of_an_index(t):
    """An index in use was made over the top lower, which stays that."""
    u = _mounted(t, 'index=on', text='f l1 x; h l2 l1; f d/low x')
    tree.append(u.m('l1'), '+')
    if not os.listdir(u.work + '/index'):
        return          # there is none here
    more = _lower(t, 'more', 'f more x')
    t.ok('has to stay' in _ctl(u, 'lower', 'add', more, status=1))
    t.ok('was made over it' in _ctl(u, 'lower', 'remove', '1', status=1))
    _add(u, more, 2)
    t.eq(tree.text(u.m('l2')), 'x+')
    _remove(u, more)
    u.umount()
    u.mount('index=on')
    t.eq(tree.text(u.m('l2')), 'x+')


@test(timeout=120)
def by_chance(t):
    """Lowers come and go while things are changed through the mount and in the layers: as on a new mount each time."""
    seed = random.SystemRandom().randrange(10**6)
    r = random.Random(seed)
    u = _mounted(t)
    spare = []
    for i in range(5):
        spare.append(_lower(t, 's%d' % i, '; '.join(
            r.choice(('f %s s%d', 'f %s/x s%d', 'f %s/s/y s%d', 'd %s/s; f z%d x')) % ('n%d' % n, i)
            for n in r.sample(range(6), 4))))
    for step in range(40):
        what = 'seed %d, step %d' % (seed, step)
        if spare and (len(u.lowers) < 2 or r.random() < 0.5):
            _add(u, spare.pop(r.randrange(len(spare))), r.randrange(1, len(u.lowers) + 2))
        elif len(u.lowers) > 1:
            p = r.choice(u.lowers)
            _remove(u, p)
            spare.append(p)
        for _ in range(3):
            n = r.choice(['n%d' % r.randrange(6), 'n%d/x' % r.randrange(6), 'n%d/s/y' % r.randrange(6)])
            how = r.randrange(5)
            if how == 0:
                result(lambda: tree.append(u.m(n), '+'))
            elif how == 1:
                result(os.unlink, u.m(n))
            elif how == 2:
                result(os.mkdir, u.m(n))
            elif how == 3:
                result(lambda: tree.write(os.path.join(r.choice(u.lowers), n), 'by others'))
            else:
                result(os.listdir, u.m(os.path.dirname(n)))
        _same(u, what)


def _reader(mnt, end):
    n = 0
    while time.monotonic() < end:
        for rel in ('', 'd', 'd/s', 'd/s/more', 'd/low', 'more', 'hidden', 'none'):
            for fn in (os.lstat, os.listdir, tree.read):
                got = result(fn, os.path.join(mnt, rel))
                if isinstance(got, str) and got not in ('ENOENT', 'ENOTDIR', 'EISDIR', 'ESTALE'):
                    return '%s of %s: %s' % (fn.__name__, rel, got)
                n += 1
    return n


@test(timeout=90)
def with_readers(t):
    """Others look and change things meanwhile."""
    u = _mounted(t)
    more = _lower(t, 'more', 'f more x; f hidden more; f d/more x; f d/s/more x')
    end = time.monotonic() + 4
    pids = []
    for i in range(3):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            code = 1
            try:
                if i < 2:
                    code = 0 if isinstance(_reader(u.mnt, end), int) else 3
                else:
                    n = 0
                    while time.monotonic() < end:
                        p = u.m('d/s/new%d' % (n % 20))
                        tree.write(p, 'x')
                        if n % 3 == 0:
                            os.unlink(p)
                        n += 1
                    code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    n = 0
    while time.monotonic() < end:
        _add(u, more, 1 + n % 3)
        _remove(u, more)
        n += 1
    t.eq([os.waitpid(p, 0)[1] for p in pids], [0, 0, 0])
    print('%d times' % n)
    _same(u)
    time.sleep(0.5)         # objects of theirs are forgotten a little later
    t.eq([p for kind, p in _layers_of(u) if kind == 'removed'], [])


@test(identities=('root',))
def its_file_system_can_be_unmounted(t):
    """When a lower has been removed, and nothing of it is open, so can what it lies on."""
    u = _mounted(t)
    at = t.plain('tmp')
    k.mount('tmpfs', at, 'tmpfs', 0, '')
    tree.build(at, 'f x/more x; f x/d/s/more x; f x/alone/deep/z z')
    _add(u, at + '/x', 3)
    warm(u)
    tree.append(u.m('alone/deep/z'), '+')
    _ctl(u, 'lower', 'remove', '3')
    u.lowers.pop()
    k.umount(at)
    t.eq(tree.text(u.m('alone/deep/z')), 'z+')
    t.eq(tree.names(u.m('alone')), ['deep'])
    _same(u)
