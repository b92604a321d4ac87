# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory pressure changes nothing: the kernel forgets at any moment."""
import mmap
import os
import random
import resource
import stat
import time

from lib import k, test, tree


class Dropper:
    """drop_caches in a loop, in a process of its own."""

    def __init__(self, pause=0.02):
        self.pid = os.fork()
        if self.pid == 0:
            while True:
                try:
                    k.drop_caches(3)
                except OSError:
                    pass
                time.sleep(pause)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


def _model_run(t, u, seed, steps):
    """Random changes by the mount and in a dictionary; after each, part of it is compared."""
    rng = random.Random(seed)
    model = {}                  # path: bytes (file), None (directory), ('l', target)
    links = {}                  # path: group of hard links
    for rel in tree.walk(u.mnt):
        p = u.m(rel)
        if rel != '.':
            if os.path.islink(p):
                model[rel] = ('l', os.readlink(p))
            else:
                model[rel] = None if os.path.isdir(p) else tree.read(p)
    held = {}                   # descriptors and what they must read

    def files():
        return sorted(r for r, v in model.items() if isinstance(v, bytes))

    def dirs():
        return sorted([''] + [r + '/' for r, v in model.items() if v is None])

    def group(rel):
        return [r for r in model if r == rel or (rel in links and links.get(r) == links[rel])]

    def fresh():
        return rng.choice(dirs()) + 'n%d' % rng.randrange(40)
    for i in range(steps):
        op = rng.choice('create create write write append unlink rename mkdir rmdir link symlink trunc '
                        'hold holdcheck chmod xattr list'.split())
        f = rng.choice(files()) if files() else None
        new = fresh()
        if op == 'create' and new not in model:
            b = rng.randbytes(rng.randrange(9000))
            tree.write(u.m(new), b)
            model[new] = b
        elif op in ('write', 'append', 'trunc') and f:
            v = model[f]
            b = rng.randbytes(rng.randrange(1, 5000))
            if op == 'append':
                tree.append(u.m(f), b)
                v += b
            elif op == 'trunc':
                n = rng.randrange(8000)
                os.truncate(u.m(f), n)
                v = v[:n] + bytes(max(0, n - len(v)))
            else:
                fd = os.open(u.m(f), os.O_RDWR)
                off = rng.randrange(8000)
                os.pwrite(fd, b, off)
                os.close(fd)
                v = (v + bytes(max(0, off + len(b) - len(v))))
                v = v[:off] + b + v[off + len(b):]
            names = group(f)
            for fd, owner in held.items():
                if owner[0] in names:
                    held[fd] = (owner[0], v)
            for r in names:
                model[r] = v
        elif op == 'unlink' and f:
            os.unlink(u.m(f))
            for fd, owner in list(held.items()):
                if owner[0] == f:
                    others = [r for r in group(f) if r != f]
                    held[fd] = (others[0] if others else '', owner[1])
            del model[f]
            links.pop(f, None)
        elif op == 'rename' and f and new not in model:
            os.rename(u.m(f), u.m(new))
            model[new] = model.pop(f)
            if f in links:
                links[new] = links.pop(f)
            for fd, owner in held.items():
                if owner[0] == f:
                    held[fd] = (new, owner[1])
        elif op == 'mkdir' and new not in model:
            os.mkdir(u.m(new))
            model[new] = None
        elif op == 'rmdir':
            empty = [r for r, v in model.items() if v is None and not any(x.startswith(r + '/') for x in model)]
            if empty:
                d = rng.choice(sorted(empty))
                os.rmdir(u.m(d))
                del model[d]
        elif op == 'link' and f and new not in model:
            os.link(u.m(f), u.m(new))
            links.setdefault(f, i)
            links[new] = links[f]
            model[new] = model[f]
        elif op == 'symlink' and new not in model:
            os.symlink('target-%d' % i, u.m(new))
            model[new] = ('l', 'target-%d' % i)
        elif op == 'hold' and f and len(held) < 20:
            held[os.open(u.m(f), rng.choice((os.O_RDONLY, os.O_RDWR)))] = (f, model[f])
        elif op == 'holdcheck' and held:
            fd = rng.choice(sorted(held))
            t.ok(os.pread(fd, 100000, 0) == held[fd][1], 'step %d: descriptor of %r' % (i, held[fd][0]))
            if rng.random() < 0.3:
                os.close(fd)
                del held[fd]
        elif op == 'chmod' and f:
            os.chmod(u.m(f), 0o600 | rng.randrange(0o100))
        elif op == 'xattr' and f:
            os.setxattr(u.m(f), 'user.step', b'%d' % i)
            t.eq(os.getxattr(u.m(f), 'user.step'), b'%d' % i)
        elif op == 'list':
            d = rng.choice(dirs())
            want = sorted(r[len(d):] for r in model if r.startswith(d) and '/' not in r[len(d):])
            t.eq(tree.names(u.m(d)), want, 'step %d: listing of %r' % (i, d))
        if f in model:
            t.ok(tree.read(u.m(f)) == model[f], 'step %d: %s after %s' % (i, f, op))
    for fd in held:
        os.close(fd)
    return model, links


def _compare(t, u, model, links):
    t.eq(sorted(r for r in tree.walk(u.mnt) if r != '.'), sorted(model))
    inos = {}
    for rel, v in model.items():
        st = os.lstat(u.m(rel))
        if isinstance(v, bytes):
            t.ok(tree.read(u.m(rel)) == v, 'content of ' + rel)
            t.eq(st.st_size, len(v))
            if rel in links:
                t.eq(inos.setdefault(links[rel], st.st_ino), st.st_ino, 'hard link ' + rel)
                t.eq(st.st_nlink, sum(1 for r in links if links[r] == links[rel] and r in model), rel)
        elif v is None:
            t.ok(stat.S_ISDIR(st.st_mode))
        else:
            t.eq(os.readlink(u.m(rel)), v[1])


@test(identities=('root',), everywhere=True, timeout=120)
def mixed_work_with_a_model(t):
    """Random work while the kernel forgets everything again and again; also with few descriptors."""
    for seed, limit in ((1, None), (2, 64), (3, None)):
        u = t.union(lowers=2, name='u%d' % seed)
        u.put('; '.join('f a/f%d low%d; f b/c/f%d %s; l l%d t; d e%d' % (i, i, i, 'x' * i * 100, i, i)
                        for i in range(8)))
        u.put('; '.join('f a/g%d low; f b/g%d 1' % (i, i) for i in range(8)), 1)
        u.mount(*(('timeout=0',) if seed == 3 else ()),
                preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))) if limit else None)
        with Dropper():
            model, links = _model_run(t, u, seed, 800)
            _compare(t, u, model, links)
        u.remount()
        _compare(t, u, model, links)
        u.umount()


@test()
def mixed_work_without_pressure(t):
    """The same work and model as any user."""
    u = t.union(text='; '.join('f a/f%d low%d; f b/c/f%d %s; l l%d t' % (i, i, i, 'x' * i * 100, i)
                               for i in range(8)))
    u.mount()
    model, links = _model_run(t, u, 11, 600)
    _compare(t, u, model, links)
    u.remount()
    _compare(t, u, model, links)


@test(identities=('root',), timeout=120)
def open_files_and_directories(t):
    """Descriptors, mappings, working directories and streams held through the storm."""
    u = t.mounted('; '.join('f d%d/f%d content-%d' % (i % 10, i, i) for i in range(100)))
    ro = {i: os.open(u.m('d%d/f%d' % (i % 10, i)), os.O_RDONLY) for i in range(3, 100, 3)}
    rw = {i: os.open(u.m('d%d/f%d' % (i % 10, i)), os.O_RDWR) for i in range(1, 100, 3)}
    dirs = {i: os.open(u.m('d%d' % i), os.O_RDONLY) for i in range(10)}
    stream = k.Dir(u.m('d5'))
    stream.read()
    maps = {i: mmap.mmap(fd, 8) for i, fd in list(rw.items())[:5]}
    gone = os.open(u.m('d0/f0'), os.O_RDWR)
    os.unlink(u.m('d0/f0'))
    inos = {i: os.fstat(fd).st_ino for i, fd in ro.items()}
    with Dropper(0.005):
        for n in range(60):
            for i, fd in ro.items():
                t.eq(os.pread(fd, 99, 0), b'content-%d' % i)
                t.eq(os.fstat(fd).st_ino, inos[i])
            for i, fd in rw.items():
                os.pwrite(fd, b'%d' % (n % 10), 0)
            for i, m in maps.items():
                t.eq(m[0:2], b'%do' % (n % 10))
            for i, fd in dirs.items():
                t.ok(len(os.listdir(fd)) in (9, 10))
                os.stat('f%d' % (i + 10), dir_fd=fd)
            os.pwrite(gone, b'%d' % n, 0)
            t.eq(os.fstat(gone).st_nlink, 0)
            os.chdir(u.m('d%d' % (n % 10)))
            t.eq(os.getcwd(), u.m('d%d' % (n % 10)))
    rest = [e[2] for e in stream.all()]
    t.ok(len(rest) >= 10)
    stream.close()
    for m in maps.values():
        m.close()
    for fd in list(ro.values()) + list(rw.values()) + list(dirs.values()) + [gone]:
        os.close(fd)
    os.chdir('/')


@test(identities=('root',), timeout=120)
def parallel_lookups(t):
    """Four processes stat, list and read the same tree while it is forgotten."""
    u = t.union(lowers=3)
    for i in range(200):
        u.put('f d%d/f%d %d' % (i % 7, i, i), i % 3)
    u.mount()
    with Dropper(0.005):
        pids = []
        for who in range(4):
            pid = os.fork()
            if pid == 0:
                try:
                    for n in range(8):
                        for i in range(200):
                            p = u.m('d%d/f%d' % (i % 7, i))
                            assert os.stat(p).st_size == len(str(i))
                            assert tree.read(p) == b'%d' % i
                        assert sum(len(os.listdir(u.m('d%d' % d))) for d in range(7)) == 200
                except BaseException as e:
                    print(e)
                    os._exit(1)
                os._exit(0)
            pids.append(pid)
        for p in pids:
            t.eq(os.waitpid(p, 0)[1], 0)


@test(identities=('root',), timeout=120)
def memory_is_given_back(t):
    """After 20,000 names were looked up and forgotten the daemon is not much larger."""
    u = t.union()
    for i in range(20):
        os.mkdir(u.low('d%d' % i))
        for j in range(1000):
            tree.write(u.low('d%d/name-%d' % (i, j)), '')
    u.check_lowers = False
    u.mount()

    def rss():
        for line in open('/proc/%d/status' % u.daemon_pid()):
            if line.startswith('VmRSS'):
                return int(line.split()[1])

    def round_():
        for i in range(20):
            for j in range(1000):
                os.stat(u.m('d%d/name-%d' % (i, j)))
        k.drop_caches(3)
    round_()
    round_()
    first = rss()
    for _ in range(3):
        round_()
    time.sleep(0.2)
    quarantine = 300000 if t.slow > 1 else 0        # of the address sanitizer
    t.ok(rss() < first * 1.5 + 4096 + quarantine, 'grew from %d to %d kB' % (first, rss()))
    fds = len(os.listdir('/proc/%d/fd' % u.daemon_pid()))
    t.ok(fds < 10000, '%d descriptors' % fds)
