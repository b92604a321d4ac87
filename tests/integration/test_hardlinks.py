# SPDX-License-Identifier: GPL-2.0-or-later
"""
Hard links of a lower over copy-up. With the index all names stay one file, as on a plain file
system, which is the oracle here. Without it the name that is changed becomes a file of its own.
"""
import os
import signal

from lib import test, tree
from lib.links import (GROUP, NAMES, STEPS, Split, append, chmod, link, look, overwrite, plan, regular,
                       rename, run_step, unlink)
from lib.overlay import index_entries


# ---- with the index: as on a plain file system

@test(everywhere=True)
def as_on_a_plain_file_system(t):
    """Random steps through any of the names; what is seen after each, and after remounts."""
    groups, plain = 40, t.plain()
    text = ['g%d/%s' % (i, '') for i in range(groups)]
    u = t.union()
    for g in text:
        tree.build(u.low(g), GROUP)
        tree.build(plain + '/' + g, GROUP)
    u.mount()
    for half in range(2):
        for i, g in enumerate(text):
            for step in plan(1000 * half + i, 5):
                names = regular(plain + '/' + g)
                run_step(plain + '/' + g, step, names)
                run_step(u.m(g), step, names)
                t.eq(look(u.m(g)), look(plain + '/' + g), '%s after %s' % (g, step[0].__name__))
        u.remount()
        t.eq(look(u.mnt), look(plain), 'after a remount')
    t.sh('rm -r g*', cwd=u.mnt)
    u.umount()
    t.eq(index_entries(u), [], 'the index outlives the names')


@test()
def every_first_step(t):
    """Each kind of change through each of the names as the first one, then all names go."""
    plain = t.plain()
    u = t.union()
    groups = {'%s-%d' % (s.__name__, i): (s, n) for s in STEPS for i, n in enumerate(NAMES)}
    for g in groups:
        tree.build(u.low(g), GROUP)
        tree.build(plain + '/' + g, GROUP)
    u.mount('index=on')
    for g, (step, name) in groups.items():
        step(u.m(g), name, 'T1')
        step(plain + '/' + g, name, 'T1')
        t.eq(look(u.m(g)), look(plain + '/' + g), g)
    u.remount()
    t.eq(look(u.mnt), look(plain), 'after a remount')
    for g in groups:
        for n in regular(plain + '/' + g):
            os.unlink(plain + '/%s/%s' % (g, n))
            os.unlink(u.m('%s/%s' % (g, n)))
            t.eq(look(u.m(g)), look(plain + '/' + g), '%s without %s' % (g, n))
    u.remount()
    t.eq(look(u.mnt), [])
    u.umount()
    t.eq(index_entries(u), [])


@test()
def after_kill(t):
    """The daemon is killed after each step; the next mount shows what was, and cleans up."""
    plain = t.plain()
    u = t.union(text=GROUP)
    u.check_layers = False
    tree.build(plain, GROUP)
    for i, (step, name) in enumerate(((append, 'b/y'), (link, 'c'), (rename, 'a/x'), (chmod, 'c'),
                                      (unlink, 'b/y'), (overwrite, 'd/n1'), (unlink, 'c'), (unlink, 'd/n1'))):
        u.mount()
        for d in (u.mnt, plain):
            step(d, name, 'n1' if step in (link,) else 'm1' if step is rename else 'q')
        t.eq(look(u.mnt), look(plain), '%d: %s' % (i, step.__name__))
        u.kill()
    u.mount()
    t.eq(look(u.mnt), look(plain))
    os.unlink(u.m('d/m1'))
    u.umount()
    t.eq(index_entries(u), [])


@test()
def descriptors_over_copy_up(t):
    """Descriptors opened under any name before the copy-up are the one file, also when the last
    name has gone; with the daemon's own descriptors spent, too."""
    u = t.mounted(GROUP)
    fds = [os.open(u.m(n), os.O_RDONLY) for n in NAMES]
    w = os.open(u.m('c'), os.O_RDWR)
    tree.append(u.m('a/x'), '+')
    t.eq([os.pread(f, 20, 0) for f in fds], [b'0123456789+'] * 3)
    t.eq({os.fstat(f).st_nlink for f in fds}, {3})
    for i, n in enumerate(NAMES):
        os.unlink(u.m(n))
        t.eq({os.fstat(f).st_nlink for f in fds}, {2 - i}, 'nlink after unlink of ' + n)
    os.pwrite(w, b'W', 0)
    os.fchmod(w, 0o640)
    t.eq([os.pread(f, 20, 0) for f in fds], [b'W123456789+'] * 3)
    t.eq(os.fstat(fds[0]).st_mode & 0o777, 0o640)
    t.eq(index_entries(u), [])
    for f in fds + [w]:
        os.close(f)
    u.remount()
    t.eq(regular(u.mnt), ['a/z'])


@test()
def concurrent_appends(t):
    """Two processes append through different names from the first copy-up on: no line is lost."""
    u = t.union(text='; '.join('f a/f%d; h b/f%d a/f%d' % (i, i, i) for i in range(20)))
    u.mount()

    def writer(d, tag):
        for i in range(20):
            fd = os.open(u.m('%s/f%d' % (d, i)), os.O_WRONLY | os.O_APPEND)
            for j in range(20):
                os.write(fd, b'%s %d\n' % (tag, j))
            os.close(fd)

    _both(t, lambda: writer('a', b'left'), lambda: writer('b', b'right'))
    want = sorted('%s %d' % (s, j) for s in ('left', 'right') for j in range(20))
    for _ in range(2):
        for i in range(20):
            for d in 'ab':
                t.eq(sorted(tree.text(u.m('%s/f%d' % (d, i))).split('\n')[:-1]), want)
        u.remount()


@test()
def concurrent_removal(t):
    """Names are removed, renamed and linked by two processes at once; what is left is one file
    with the right count, and nothing stays in the index at the end."""
    n = 25
    u = t.union(text='; '.join('f a/f%d data; h b/f%d a/f%d' % (i, i, i) for i in range(n)) + '; d d')
    u.mount()

    def left():
        for i in range(n):
            os.rename(u.m('a/f%d' % i), u.m('d/f%d' % i))

    def right():
        for i in range(n):
            os.link(u.m('b/f%d' % i), u.m('b/g%d' % i))
            os.unlink(u.m('b/f%d' % i))

    _both(t, left, right)
    for _ in range(2):
        t.eq((tree.names(u.m('a')), len(tree.names(u.m('d')))), ([], n))
        for i in range(n):
            x, y = os.stat(u.m('d/f%d' % i)), os.stat(u.m('b/g%d' % i))
            t.eq((x.st_ino, x.st_nlink, y.st_nlink), (y.st_ino, 2, 2))
        u.remount()
    t.sh('rm -r a b d', cwd=u.mnt)
    t.eq(index_entries(u), [])


def _both(t, *work):
    pids = []
    for fn in work:
        pid = os.fork()
        if pid == 0:
            try:
                fn()
                os._exit(0)
            except BaseException as e:
                print(repr(e), flush=True)
            os._exit(1)
        pids.append(pid)
    t.eq([os.waitpid(p, 0)[1] for p in pids], [0] * len(pids))


@test()
def other_kinds(t):
    """Hard links of symlinks and fifos: one inode with the index where it can be kept (trusted),
    and never a wrong one."""
    u = t.mounted('l l tgt; h l2 l; p p; h p2 p')
    os.utime(u.m('l'), ns=(7, 8), follow_symlinks=False)
    os.chmod(u.m('p'), 0o600)
    for _ in range(2):
        t.eq((os.readlink(u.m('l')), os.readlink(u.m('l2'))), ('tgt', 'tgt'))
        t.eq(os.lstat(u.m('l')).st_mtime_ns, 8)
        if t.root:
            for a, b in (('l', 'l2'), ('p', 'p2')):
                x, y = os.lstat(u.m(a)), os.lstat(u.m(b))
                t.eq((x.st_ino, x.st_nlink, x.st_mtime_ns, x.st_mode),
                     (y.st_ino, 2, y.st_mtime_ns, y.st_mode))
        u.remount()


# ---- without: each name its own

def _split(t, u, seeds, opts):
    for g in seeds:
        tree.build(u.low('g%d' % g), GROUP)
    u.mount(*opts)
    models = {g: Split(u.m('g%d' % g)) for g in seeds}
    for half in range(2):
        for g in seeds:
            for step in plan(5000 + 1000 * half + g, 5):
                names = sorted(models[g].names)
                if names:
                    run_step(u.m('g%d' % g), step, names)
                    models[g].step(step[0], names[step[1] % len(names)], step[2])
                t.eq(sorted(look(u.m('g%d' % g))), models[g].look(), 'g%d after %s' % (g, step[0].__name__))
        u.remount()
        for g in seeds:
            t.eq(sorted(look(u.m('g%d' % g))), models[g].look(), 'g%d after a remount' % g)


@test(everywhere=True)
def without_index(t):
    """index=off: no name shows another's change, none loses its own; counts and numbers by the
    rules of overlayfs: lower names keep the lower's, a broken one is new at once."""
    u = t.union()
    _split(t, u, range(30), ('index=off',))
    u.umount()
    t.eq(index_entries(u), [])


@test()
def without_index_concurrently(t):
    u = t.union(text='; '.join('f a/f%d; h b/f%d a/f%d' % (i, i, i) for i in range(20)))
    u.mount('index=off')

    def writer(d):
        for i in range(20):
            for j in range(10):
                tree.append(u.m('%s/f%d' % (d, i)), '%s%d ' % (d, j))

    _both(t, lambda: writer('a'), lambda: writer('b'))
    for _ in range(2):
        for i in range(20):
            for d in 'ab':
                t.eq(tree.text(u.m('%s/f%d' % (d, i))), ''.join('%s%d ' % (d, j) for j in range(10)))
        u.remount()


@test()
def descriptors_without_index(t):
    """A descriptor opened under one name never shows what another name got."""
    u = t.mounted(GROUP, 'index=off')
    fds = [os.open(u.m(n), os.O_RDONLY) for n in NAMES]
    for n in NAMES[:2]:
        tree.append(u.m(n), '+' + n)
    t.eq(tree.text(u.m('c')), '0123456789')
    t.eq(os.pread(fds[2], 50, 0), b'0123456789')
    for n in NAMES[:2]:
        t.eq(tree.text(u.m(n)), '0123456789+' + n)
        os.unlink(u.m(n))
    t.eq(os.pread(fds[2], 50, 0), b'0123456789')
    for f in fds:
        os.close(f)


@test(timeout=40)
def killed_in_a_storm(t):
    """SIGKILL while names of many files come and go: afterwards every file's names show one
    content that was written to it, and the counts are right."""
    n = 60
    u = t.union(text='; '.join('f a/f%d old; h b/f%d a/f%d' % (i, i, i) for i in range(n)) + '; d d')
    u.check_layers = False
    u.mount()
    pid = os.fork()
    if pid == 0:
        try:
            for i in range(n):
                tree.append(u.m('a/f%d' % i), '+')
                os.rename(u.m('b/f%d' % i), u.m('d/f%d' % i))
                os.link(u.m('a/f%d' % i), u.m('d/g%d' % i))
                if i % 3 == 0:
                    os.unlink(u.m('a/f%d' % i))
        except OSError:
            pass
        os._exit(0)
    _wait_for(lambda: tree.exists(u.up('d/g%d' % (n // 2))))
    u.proc.send_signal(signal.SIGKILL)
    os.waitpid(pid, 0)
    u.kill()
    u.mount()
    for i in range(n):
        there = [p for p in ('a/f%d' % i, 'b/f%d' % i, 'd/f%d' % i, 'd/g%d' % i) if tree.exists(u.m(p))]
        t.ok(len(there) >= 2, 'names of f%d: %s' % (i, there))
        t.eq(len({tree.text(u.m(p)) for p in there}), 1, str(there))
        t.ok(tree.text(u.m(there[0])) in ('old', 'old+'), there[0])
        t.eq({os.stat(u.m(p)).st_nlink for p in there}, {len(there)}, 'nlink of %s' % there)
    t.sh('rm -r a b d', cwd=u.mnt)
    u.umount()
    t.eq(index_entries(u), [])


def _wait_for(cond):
    for _ in range(20000):
        if cond():
            return
