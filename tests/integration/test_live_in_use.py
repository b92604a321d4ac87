# SPDX-License-Identifier: GPL-2.0-or-later
"""
Layers that change while somebody works in the mount: open descriptors, working directories, copy-ups before and
after, readers at the same time, more changes than the kernel keeps.
"""
import errno
import os
import random
import signal
import time

from lib import k, test, tree
from lib.edits import edit
from lib.live import GONE, KERNEL, fresh, live, mount, result, see, view, warm


# ---- under a descriptor, under somebody's feet

def _through(c, fd):
    """A directory that is no more: nothing in it, or that it is gone; never what is another's."""
    t = c.t
    t.ok(result(os.listdir, fd) in GONE + ([],), 'listing: %s' % (result(os.listdir, fd),))
    got = result(lambda: os.stat('x', dir_fd=fd).st_size)
    t.ok(got in GONE or KERNEL and got == len('mine'), 'stat of x: %s' % (got,))
    got = result(lambda: os.stat('other', dir_fd=fd).st_size)
    t.ok(got in GONE, 'another directory: %s' % (got,))
    t.ok(result(lambda: os.fstat(fd).st_mode) is not None)
    t.ok(result(lambda: os.stat('..', dir_fd=fd).st_mode) is not None)
    got = result(lambda: os.close(os.open('made', os.O_CREAT | os.O_WRONLY, dir_fd=fd)))
    t.ok(got in GONE, 'making a file in it: %s' % (got,))


@live('f d/x mine; f d/s/y 1')
def removed_under_a_descriptor(c):
    """Alone in its layer, removed; then another of its name, maybe of its inode number, is made."""
    fds = [os.open(c.m(n), os.O_RDONLY) for n in ('d', 'd/s')]
    for fd in fds:
        os.listdir(fd)
    c.t.sh('rm -r d', cwd=c.layer)
    c.gone('d')
    _through(c, fds[0])
    _through(c, fds[1])
    c.put('f d/other 1; f d/s/other 1; f e/other 1')
    c.dir('d', 'other', 's')
    _through(c, fds[0])
    _through(c, fds[1])
    for fd in fds:
        os.close(fd)
    c.t.ok(not os.path.exists(c.at('d/made')), 'made in another directory')


@live('f d/x mine; f d/s/y 1', below='f e/other 1')
def removed_under_a_working_directory(c):
    """The same for who stands in it, and for who reads a listing half through."""
    names = k.Dir(c.m('d'))
    names.read()
    os.chdir(c.m('d/s'))
    c.t.sh('rm -r d', cwd=c.layer)
    c.gone('d')
    c.t.ok(result(os.listdir, '.') in GONE + ([],), 'listing of what is gone')
    if not KERNEL:                          # which still knows the file it has seen there
        c.see(lambda: os.stat('y'), set(GONE))
    c.see(lambda: os.open('made', os.O_CREAT | os.O_WRONLY), set(GONE))
    result(os.getcwd)
    result(os.stat, '..')
    rest = result(lambda: [n for _, _, n in names.all()])
    c.t.ok(rest in GONE or set(rest) <= {'.', '..', 'x', 's'}, rest)
    c.put('f d/other 1; f d/s/other 1')
    c.file('d/s/other', '1')
    c.t.ok(result(os.listdir, '.') in GONE + ([],), 'listing of what is gone')
    c.see(lambda: os.stat('other'), set(GONE))
    names.close()
    os.chdir(c.t.dir)


@live('f d/x mine', below='f d/b below')
def moved_away_under_a_descriptor(c):
    """Out of the layer, while the layer below has one of that name: its own names, those below, or that it is gone."""
    fd = os.open(c.m('d'), os.O_RDONLY)
    os.rename(c.at('d'), c.aside('d here') + '/d')
    c.dir('d', 'b')
    got = result(os.listdir, fd)
    c.t.ok(got in GONE or set(got) <= {'x', 'b'}, got)
    os.rename(c.aside('f n/other 1', 'second') + '/n', c.at('d'))
    c.dir('d', 'b', 'other')
    got = result(os.listdir, fd)
    c.t.ok(got in GONE or set(got) <= {'x', 'b', 'other'}, got)
    os.close(fd)


@test()
def put_into_a_directory_that_goes(t):
    """Listed as empty, then others put a file into it, and it is removed or renamed over at once: it stays."""
    u = t.union(text='f low/gone 1; d lower')
    u.check_lowers = False
    tree.build(u.upper, 'd plain; d low; d lower; d e', t.ns)
    for opts in (('watches=1',), ()):
        u.mount(*opts)
        if os.path.exists(u.m('low/gone')):
            os.unlink(u.m('low/gone'))
        for n in ('plain', 'low', 'lower'):
            for gone in (os.rmdir, lambda p: os.rename(u.m('e'), p)):
                t.eq(tree.names(u.m(n)), [])
                tree.write(u.up(n + '/f'), 'precious')
                t.fails((errno.ENOTEMPTY, errno.EEXIST), gone, u.m(n))
                t.eq(tree.text(u.up(n + '/f')), 'precious')
                os.unlink(u.up(n + '/f'))
                see(u, lambda: tree.names(u.m(n)), [])
        u.umount()


@test(timeout=90)
def put_into_a_directory_as_it_goes(t):
    """At the very moment: either the file cannot be made, or the directory stays, with it."""
    u = t.union(text='; '.join('f d/x%d 1' % i for i in range(5)))
    mount(u)
    for go in (os.rmdir, lambda p: os.rename(u.m('e'), p)):
        made = stayed = 0
        for i in range(600):
            for n in 'de':
                if not os.path.isdir(u.m(n)):
                    os.mkdir(u.m(n))
            for n in os.listdir(u.m('d')):
                os.unlink(u.m('d/' + n))
            ask, answer = os.pipe()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.read(ask, 1)
                    end = time.perf_counter() + random.random() * 1.5e-4
                    while time.perf_counter() < end:
                        pass
                    os.close(os.open(u.up('d/f'), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    code = 0
                finally:
                    os._exit(code)
            os.write(answer, b'x')
            gone = result(go, u.m('d')) is None
            if os.waitpid(pid, 0)[1] == 0:
                made += 1
                stayed += not gone
                t.ok(os.path.exists(u.up('d/f')), 'lost, %d of %d' % (i, made))
                see(u, lambda: 'f' in os.listdir(u.m('d')), True)
            os.close(ask)
            os.close(answer)
        print('%d made, %d times the directory stayed' % (made, stayed))


@test(timeout=120)
def killed_while_what_is_written_changes(t):
    """The kernel is to drop pages that a write has locked: a daemon killed then must be gone, and the mount with it."""
    u = t.union()
    u.check_lowers = u.check_layers = False
    with open(u.low('big'), 'wb') as f:
        f.write(b'x' * (64 << 20))
    for i in range(4):
        mount(u, 'metacopy=off')
        os.stat(u.m('big'))
        pid = os.fork()
        if pid == 0:
            try:
                fd = os.open(u.m('big'), os.O_WRONLY)
                os.pwrite(fd, b'W', 0)
            except OSError:
                pass
            finally:
                os._exit(0)
        time.sleep(0.005 * (i + 1))
        tree.append(u.low('big'), '+')
        time.sleep(0.005)
        u.proc.send_signal(signal.SIGKILL)
        u.proc.wait(10 * t.slow)
        end = time.monotonic() + 10 * t.slow
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            t.ok(time.monotonic() < end, 'who wrote waits for ever')
            time.sleep(0.01)
        u.kill()
        t.sh('rm -rf -- *', cwd=u.upper)


@test(timeout=120)
def asked_for_as_it_changes(t):
    """
    Who asks for a name that he knows, and has not run since he was answered, makes his answer good in the kernel
    after others have put another file there: that does not stay.
    """
    u = t.union(text='f d/f first')
    u.check_lowers = False
    mount(u)
    readers = []
    go, stop = os.pipe()
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                os.nice(19)
                os.close(stop)
                os.set_blocking(go, False)
                while True:
                    for _ in range(50):
                        os.stat(u.m('d/f'))
                    try:
                        if not os.read(go, 1):
                            break
                    except BlockingIOError:
                        pass
            finally:
                os._exit(0)
        readers.append(pid)
    os.close(go)
    late = 0
    for i in range(150):
        os.chmod(u.low('d/f'), 0o644 if i % 2 else 0o640)
        time.sleep(random.random() * 3e-4)
        tree.write(u.low('new'), 'x' * (i + 10))
        os.rename(u.low('new'), u.low('d/f'))
        time.sleep(0.02)
        end = time.monotonic() + 5 * t.slow
        while os.stat(u.m('d/f')).st_size != i + 10:
            late += time.monotonic() < end - 4.9 * t.slow
            t.ok(time.monotonic() < end, 'the old file stays, %d' % i)
            time.sleep(0.1)
    os.close(stop)
    for pid in readers:
        os.waitpid(pid, 0)
    print('%d times late' % late)


@test()
def made_to_merge_under_a_working_directory(t):
    """Its old descriptors and its path go on being one directory."""
    u = t.union(text='f other x')
    u.check_lowers = False
    mount(u)
    os.mkdir(u.m('e'))
    fd = os.open(u.m('e'), os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir(u.low('e'))
    see(u, lambda: tree.names(u.m('e')), [])
    t.eq(result(os.stat, u.m('e/new')), 'ENOENT')
    os.close(os.open('new', os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
    see(u, lambda: tree.names(u.m('e')), ['new'])
    tree.write(u.m('e/by-path'), '')
    see(u, lambda: os.stat('by-path', dir_fd=fd).st_size, 0)
    t.fails(errno.ENOTEMPTY, os.rmdir, u.m('e'))
    os.close(fd)
    u.umount()
    t.eq(sorted(os.listdir(u.up('e'))), ['by-path', 'new'])


@test()
def made_of_other_directories(t):
    """Who stands in a directory, or has it open, sees what its path shows when layers come to it and go."""
    u = t.union(lowers=2, text='f d/a 1; f d/s/x 1')
    tree.build(u.lowers[1], 'f d/below 1; f d/s/deep/z 1')
    mount(u)
    fds = {n: os.open(u.m(n), os.O_RDONLY | os.O_DIRECTORY) for n in ('d', 'd/s', 'd/s/deep')}
    # The kernel knows all of it, and the daemon is asked for nothing by its path from here on.
    warm(u)

    def is_now(d, s, deep):
        want = {'d': d.split(), 'd/s': s.split(), 'd/s/deep': deep.split()}
        for n, fd in fds.items():
            see(u, lambda: sorted(os.listdir(fd)), want[n], n)
            for name in want[n]:
                see(u, lambda: os.stat(name, dir_fd=fd).st_ino == os.stat(u.m('%s/%s' % (n, name))).st_ino, True,
                    '%s/%s' % (n, name))
            see(u, lambda: os.fstat(fd).st_ino == os.stat(u.m(n)).st_ino, True, n)
            see(u, lambda: sorted(os.listdir(u.m(n))), want[n], n)
    is_now('a below s', 'deep x', 'z')
    tree.build(u.upper, 'f d/s/deep/top 1; f d/b 1')
    is_now('a b below s', 'deep x', 'top z')
    t.sh('rm -r d', cwd=u.lowers[1])
    is_now('a b s', 'deep x', 'top')
    # One file there hides another.
    tree.build(u.upper, 'f d/s/x above')
    see(u, lambda: tree.text('/proc/self/fd/%d/x' % fds['d/s']), 'above')
    os.setxattr(u.upper + '/d/s', t.ns + '.overlay.opaque', b'y')
    os.unlink(u.upper + '/d/s/x')
    is_now('a b s', 'deep', 'top')
    os.removexattr(u.upper + '/d/s', t.ns + '.overlay.opaque')
    is_now('a b s', 'deep x', 'top')
    # Written through either, it is in one place.
    os.close(os.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=fds['d/s']))
    tree.write(u.m('d/s/deep/by-path'), '')
    is_now('a b s', 'deep new x', 'by-path top')
    t.eq(sorted(os.listdir(u.upper + '/d/s')), ['deep', 'new'])
    for fd in fds.values():
        os.close(fd)


@test()
def mark_taken_off_what_was_made_here(t):
    """A directory made through the mount hides one below, until others take its mark off."""
    u = t.union(text='f d/low 1')
    mount(u)
    t.sh('rm -r d; mkdir d', cwd=u.mnt)
    warm(u)
    t.eq(tree.names(u.m('d')), [])
    os.removexattr(u.up('d'), t.ns + '.overlay.opaque')
    see(u, lambda: tree.names(u.m('d')), ['low'])
    see(u, lambda: tree.text(u.m('d/low')), '1')


@test()
def moved_from_layer_to_layer(t):
    """A file is the same one wherever it is moved to, and is found there: from lower to lower, to another directory."""
    u = t.union(lowers=2, text='f d/x content; f d/s/y deep; f e/z 1')
    tree.build(u.lowers[1], 'f d/z 1; f e/z 1')
    mount(u)
    warm(u)
    fd = os.open(u.m('d/x'), os.O_RDONLY)

    def is_there():
        see(u, lambda: os.stat(u.m('d/x')).st_size, 7)
        see(u, lambda: tree.text(u.m('d/x')), 'content')
        see(u, lambda: os.fstat(fd).st_size, 7)
        see(u, lambda: tree.text(u.m('d/s/y')), 'deep')
    is_there()
    for i in range(3):
        for a, b in ((0, 1), (1, 0)):
            os.rename(u.lowers[a] + '/d/x', u.lowers[b] + '/d/x')
            if i == 1:
                os.rename(u.lowers[a] + '/d/s', u.lowers[b] + '/d/s')
            if t.root:
                k.drop_caches(3)
            is_there()
    os.close(fd)


@test()
def listing_of_what_is_not_watched(t):
    """After a second it is what the layers hold, also if the directory's own times have not moved."""
    u = t.union(lowers=2)
    u.check_lowers = False
    for i in range(2):
        u.put('f m/a 1; f m/a%d 1' % i, i=i)
    u.put('f one/a 1', i=1)
    u.mount('watches=1')
    names = {'m': ['a', 'a0', 'a1'], 'one': ['a']}
    for layer, n in ((1, 'm'), (0, 'm'), (1, 'one')):
        t.eq(tree.names(u.m(n)), names[n])
        for new in ('x', 'y'):
            new += str(layer)
            tree.write(u.low('%s/%s' % (n, new), layer), '')
            names[n] = sorted(names[n] + [new])
            tree.names(u.m(n))      # in the same second, with the new times or without them
            time.sleep(1.1)
            t.eq(tree.names(u.m(n)), names[n], 'lower %d' % layer)
    u.umount()


@test()
def times_of_a_directory_that_was_only_listed(t):
    """Others put a file into it: the attributes that came with the listing are not true any more."""
    u = t.union(text='f d/x 1; f e 1')
    mount(u)
    k.listing(u.mnt)
    os.stat(u.m('d'))
    u.put('f d/new 1')
    see(u, lambda: os.stat(u.m('d')).st_mtime_ns, os.stat(u.low('d')).st_mtime_ns)
    if not KERNEL:
        u.umount()


# ---- what must not change

@live('f f above; f g g; o d; f d/x 1', below='f f below; f d/hidden 1; f g below')
def changes_that_are_hidden(c):
    """What a layer above hides may change as it likes below."""
    tree.build(c.below, 'f f changed; f d/more 1; f d/x below')
    os.unlink(c.below + '/g')
    c.file('f', 'above')
    c.file('g', 'g')
    c.dir('d', 'x')
    c.file('d/x', '1')


@live('f f old; f d/x 1', layers=('lower',))
def copied_up_before(c):
    """What was changed through the mount is in the upper, and stays so when the lower changes."""
    tree.append(c.m('f'), '+')
    tree.write(c.m('d/y'), 'y')
    warm(c.u)
    tree.write(c.at('f'), 'changed below')
    c.put('f d/y below; f d/z 1')
    c.file('f', 'old+')
    c.file('d/y', 'y')
    c.dir('d', 'x', 'y', 'z')
    os.unlink(c.m('d/z'))
    c.gone('d/z')
    c.put('f d/z again')
    c.gone('d/z')


@live('f f old; f d/x 1; f d/y 1', layers=('lower',))
def changed_here_and_there(c):
    """Through the mount and behind it in turn, in one directory."""
    for i in range(10):
        tree.write(c.m('d/m%d' % i), 'm')
        tree.write(c.at('d/l%d' % i), 'l')
        c.file('d/l%d' % i, 'l')
        tree.write(c.u.up('d/u%d' % i), 'u')
        c.file('d/u%d' % i, 'u')
        if i % 3 == 2:
            os.unlink(c.m('d/m%d' % i))
            os.unlink(c.at('d/l%d' % (i - 1)))
            os.unlink(c.u.up('d/u%d' % i))
            c.gone('d/m%d' % i, 'd/l%d' % (i - 1), 'd/u%d' % i)
    c.dir('d', *(['x', 'y'] + ['%s%d' % (a, i) for a in 'mlu' for i in range(10)
                               if not (a in 'mu' and i % 3 == 2 or a == 'l' and i % 3 == 1 and i < 9)]))


@live('f f content', layers=('lower',))
def metacopy_whose_data_goes_away(c):
    """Its mode was changed through the mount; then the lower's file goes: an error for it, nothing else is affected."""
    if KERNEL:
        c.t.skip('not by default')
    os.chmod(c.m('f'), 0o600)
    c.t.eq(tree.text(c.m('f')), 'content')
    c.put('f g 1')
    c.file('g', '1')
    tree.write(c.at('f'), 'changed')
    c.file('f', 'changed')
    if not c.u.is_metacopy('f'):
        return
    os.unlink(c.at('f'))
    c.see(lambda: tree.text(c.m('f')), {'EIO', 'ENOENT', 'ESTALE', 'ENODATA'})
    c.file('g', '1')
    c.put('f f back')
    c.see(lambda: tree.text(c.m('f')), 'back')      # its size stays that of the upper's


# ---- readers racing writers

def _reader(root, seed, end):
    """Stat, list, read whatever there is, in any order; any of it may be gone by then."""
    r = random.Random(seed)
    n = 0
    allowed = {'ENOENT', 'ESTALE', 'ENOTDIR', 'EISDIR', 'EACCES', 'EINVAL', 'ELOOP'}
    while time.monotonic() < end:
        names = result(lambda: list(tree.walk(root)))
        if not isinstance(names, list):
            if names not in allowed:
                return 'walk: %s' % names
            continue
        for rel in [r.choice(names) for _ in range(20)]:
            p = os.path.join(root, rel)
            for fn in (os.lstat, os.listdir, tree.read, lambda p: os.lstat(p + 'x'), tree.xattrs):
                got = result(fn, p)
                if isinstance(got, str) and got not in allowed:
                    return '%s of %s: %s' % (getattr(fn, '__name__', 'miss'), rel, got)
                n += 1
    return n


@test(timeout=90, alone=True)
def readers_and_a_writer(t):
    """Four processes look at everything while the layers are edited for five seconds; then all is as on a new mount."""
    u = t.union(lowers=2)
    for i in range(3):
        tree.build((u.lowers + [u.upper])[i], ' '.join('f d%d/d%d/f%d %d;' % (a, b, f, i) for a in range(2)
                                                      for b in range(3) for f in range(3) if (a + b + f) % 3 >= i))
    mount(u)
    warm(u)
    end = time.monotonic() + 5
    readers = []
    for i in range(4):
        rfd, wfd = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                os.write(wfd, str(_reader(u.mnt, i, end)).encode())
            except BaseException as e:
                os.write(wfd, repr(e).encode())
            finally:
                os._exit(0)
        os.close(wfd)
        readers.append((pid, rfd))
    seed = random.SystemRandom().randrange(10**6)
    r = random.Random(seed)
    edits = 0
    while time.monotonic() < end:
        edit(r, u.lowers + [u.upper], t.ns)
        edits += 1
    said = []
    for pid, rfd in readers:
        said.append(os.read(rfd, 1000).decode())
        os.waitpid(pid, 0)
        os.close(rfd)
    print('seed %d, %d edits, looks: %s' % (seed, edits, ' '.join(said)))
    t.ok(all(s.isdigit() and int(s) > 0 for s in said), 'seed %d: %s' % (seed, said))
    want, title = fresh(u), 'seed %d: ours -> a fresh mount' % seed
    see(u, lambda: view(u.mnt), want, title)
    if not KERNEL:
        u.umount()


@test(timeout=120, alone=True)
def more_changes_than_are_kept(t):
    """The daemon sleeps while more is changed than the kernel keeps events: afterwards everything is asked again."""
    u = t.union()
    u.put('; '.join('f d/f%d x; f e/f%d x' % (i, i) for i in range(10)))
    if KERNEL:
        return
    mount(u)
    for d in 'de':
        for n in tree.names(u.m(d)):
            tree.text(u.m('%s/%s' % (d, n)))
    os.kill(u.daemon_pid(), signal.SIGSTOP)
    try:
        for i in range(17000):
            os.close(os.open(u.low('d/g%d' % i), os.O_CREAT | os.O_WRONLY, 0o644))
        os.unlink(u.low('e/f3'))
        tree.write(u.low('e/f4'), 'changed')
        tree.write(u.low('e/new'), '')
    finally:
        os.kill(u.daemon_pid(), signal.SIGCONT)
    see(u, lambda: len(tree.names(u.m('d'))), 17010)
    see(u, lambda: tree.names(u.m('e')), sorted(['f%d' % i for i in range(10) if i != 3] + ['new']))
    see(u, lambda: tree.text(u.m('e/f4')), 'changed')
    t.eq(result(os.stat, u.m('e/f3')), 'ENOENT')
