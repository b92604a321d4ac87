# SPDX-License-Identifier: GPL-2.0-or-later
"""What people and their programs do: the classic experiments, and where other unions fall."""
import ctypes
import errno
import os
import socket
import sqlite3
import stat
import struct

from lib import k, test, tree


@test(everywhere=True)
def classic_experiments(t):
    """Merge, edit, delete, delete a directory, recreate: what everyone tries first."""
    for opts in ((), ('metacopy=off',)):
        _experiments(t, *opts)


def _experiments(t, *opts):
    u = t.union(lowers=3, text='f same from-a; f only-a a; d dir; f dir/a 1')
    u.put('f same from-b; f only-b b; f dir/b 1; f dir/same b', 1)
    u.put('f same from-c; f only-c c; f dir/c 1; f dir/same c; f rmdir/x 1; f rmdir/y/z 1', 2)
    u.mount(*opts)
    t.eq(t.sh('cat same only-a only-b only-c', cwd=u.mnt), 'from-aabc')
    t.sh('echo edited >> only-b', cwd=u.mnt)
    t.eq((tree.names(u.upper), tree.text(u.low('only-b', 1))), (['only-b'], 'b'))
    t.sh('rm only-c', cwd=u.mnt)
    line = t.run('ls', '-l', u.up('only-c'))
    t.ok(line.startswith('c---------') and '0, 0' in line.replace('  ', ' '), line)
    t.sh('rm -r rmdir', cwd=u.mnt)
    t.ok(tree.is_whiteout(u.up('rmdir')))
    t.sh('mkdir rmdir; echo new > rmdir/new; echo again > only-c', cwd=u.mnt)
    t.eq((tree.names(u.m('rmdir')), tree.text(u.m('only-c'))), (['new'], 'again\n'))
    t.sh('mv only-a moved', cwd=u.mnt)
    t.ok(tree.is_whiteout(u.up('only-a')))
    if opts:
        t.eq(tree.text(u.up('moved')), 'a')
    else:
        t.ok(u.is_metacopy('moved'))
    u.remount()
    t.eq(tree.names(u.mnt), ['dir', 'moved', 'only-b', 'only-c', 'rmdir', 'same'])
    t.eq(tree.text(u.m('moved')), 'a')
    u.umount()


@test(everywhere=True)
def editors_save(t):
    """Write a temporary file, copy the mode, sync, rename over; with a backup link; with truncate."""
    u = t.mounted('f conf old 640; f conf2 old; f conf3 old 600')
    t.sh('cp -p conf conf.tmp; echo new > conf.tmp; sync conf.tmp; mv conf.tmp conf', cwd=u.mnt)
    t.eq((tree.text(u.m('conf')), stat.S_IMODE(os.stat(u.m('conf')).st_mode)), ('new\n', 0o640))
    t.sh('ln conf2 conf2~; echo new > .conf2.swp; mv .conf2.swp conf2', cwd=u.mnt)
    t.eq((tree.text(u.m('conf2')), tree.text(u.m('conf2~'))), ('new\n', 'old'))
    t.sh('mv conf3 conf3.bak; echo new > conf3; chmod 600 conf3; sed -i s/new/newer/ conf3', cwd=u.mnt)
    t.eq((tree.text(u.m('conf3')), tree.text(u.m('conf3.bak'))), ('newer\n', 'old'))
    u.remount()
    t.eq(tree.names(u.mnt), ['conf', 'conf2', 'conf2~', 'conf3', 'conf3.bak'])


@test()
def removed_names_do_not_answer(t):
    """rm -rf d; mkdir d: the old names of d do not answer to stat, warm or cold."""
    u = t.mounted('f d/a 1; f d/s/b 1')
    for p in ('d/a', 'd/s', 'd/s/b'):
        os.stat(u.m(p))
    t.sh('rm -rf d; mkdir d', cwd=u.mnt)
    for p in ('d/a', 'd/s', 'd/s/b'):
        t.fails(errno.ENOENT, os.stat, u.m(p))
    t.eq(os.listdir(u.m('d')), [])
    t.sh('mkdir d/s', cwd=u.mnt)
    t.fails(errno.ENOENT, os.stat, u.m('d/s/b'))
    u.remount()
    for p in ('d/a', 'd/s/b'):
        t.fails(errno.ENOENT, os.stat, u.m(p))


@test()
def renamed_opaque_directory(t):
    u = t.mounted('f d/a 1; f e/b 1')
    t.sh('rm -rf d; mkdir d; echo 2 > d/n; mv d x; mv x y; mkdir e/sub; mv y e/sub/z', cwd=u.mnt)
    for _ in range(2):
        t.eq(tree.names(u.m('e/sub/z')), ['n'])
        t.fails(errno.ENOENT, os.stat, u.m('d'))
        u.remount()


@test()
def lower_fifo_and_socket(t):
    """chmod, touch and chown of a lower fifo or socket do not open it."""
    u = t.mounted('p p; s s')
    t.sh('chmod 600 p s; touch -d @1000000000 p s; chown $(id -u):$(id -g) p s', cwd=u.mnt)
    for n in 'ps':
        st = os.lstat(u.m(n))
        t.eq((stat.S_IMODE(st.st_mode), st.st_mtime), (0o600, 1000000000))
        t.eq(stat.S_IFMT(os.lstat(u.up(n)).st_mode), stat.S_IFMT(st.st_mode))


@test()
def fifos_and_sockets_work(t):
    """A new fifo carries data between processes, a socket in the union can be bound and used."""
    u = t.mounted('d d; p low')
    os.mkfifo(u.m('d/p'))
    for p in ('d/p', 'low'):
        pid = os.fork()
        if pid == 0:
            tree.write(u.m(p), 'through the pipe', os.O_WRONLY)
            os._exit(0)
        t.eq(tree.text(u.m(p)), 'through the pipe')
        os.waitpid(pid, 0)
    os.chdir(u.m('d'))
    s = socket.socket(socket.AF_UNIX)
    s.bind('sock')
    s.listen()
    c = socket.socket(socket.AF_UNIX)
    c.connect('sock')
    a, _ = s.accept()
    c.send(b'hello')
    t.eq(a.recv(9), b'hello')
    for x in (a, c, s):
        x.close()
    os.unlink('sock')
    os.chdir('/')


@test(needs=('git',), everywhere=True, timeout=120)
def git(t):
    """A local clone (hard links), commit, checkout, gc, fsck; a worktree in the lower."""
    env = dict(os.environ, GIT_AUTHOR_NAME='a', GIT_AUTHOR_EMAIL='a@b', GIT_COMMITTER_NAME='a',
               GIT_COMMITTER_EMAIL='a@b', HOME=t.dir, GIT_CONFIG_NOSYSTEM='1')
    u = t.union()
    u.check_lowers = False
    make = 'git init -q r; cd r; for i in $(seq 60); do mkdir -p d$((i%7)); echo $i > d$((i%7))/f$i; done;' \
           'git add .; git commit -qm one'
    t.sh(make, cwd=u.low(), env=env)
    u.mount()
    t.sh('git clone -q r c; git clone -q --no-hardlinks r n; cd c; git fsck --strict; git status --porcelain;'
         'echo x > d1/new; git add .; git commit -qm two; git gc -q; git fsck; git checkout -q -b b HEAD~1;'
         'git checkout -q -; rm -rf d1; git checkout -q .; git stash list; test -z "$(git status --porcelain)";'
         'cd ../r; echo y >> d2/f2; git commit -qam three; git gc -q; git fsck; git pull -q ../c 2>/dev/null || true;'
         'git fsck; rm -rf d3; git reset -q --hard; test -z "$(git status --porcelain)"', cwd=u.mnt, env=env)
    u.remount()
    t.sh('for r in r c n; do (cd $r; git fsck; test -z "$(git status --porcelain)"); done; rm -rf r c n',
         cwd=u.mnt, env=env)
    t.eq(os.listdir(u.mnt), [])


@test()
def linked_source_keeps_its_number(t):
    """link(2) must not change the source's inode number, both names are one inode at once (a
    local clone compares them)."""
    u = t.mounted('f a 1; f d/x 1')
    tree.write(u.m('n'), 'x')
    for src in ('a', 'n'):
        before = os.stat(u.m(src))
        os.link(u.m(src), u.m('d/' + src))
        a, b = os.stat(u.m(src)), os.stat(u.m('d/' + src))
        t.eq((a.st_ino, a.st_dev, b.st_ino, a.st_nlink, b.st_nlink),
             (before.st_ino, before.st_dev, before.st_ino, 2, 2), src)


@test(everywhere=True)
def copying_programs(t):
    """cp -a, tar, cpio-like copies out of and into the union are exact, sparse files included."""
    u = t.union(text='f a hello 640; l l a; p p; d d 2750; f d/x 1; h d/h a; x a user.k v; f s')
    os.truncate(u.low('s'), 10 << 20)
    for n in ('a', 'd/x', 'd', 'l', 'p'):
        os.utime(u.low(n), ns=(10**18 + 5, 10**18 + 123456789), follow_symlinks=False)
    u.mount()
    want = tree.snapshot(u.mnt)
    t.sh('cp -a . ../out; mkdir ../tar; tar --xattrs -cSf - . | tar --xattrs -pxSf - -C ../tar', cwd=u.mnt)
    for n in ('out', 'tar'):
        got = tree.snapshot(u.root + '/' + n)
        for p in want:
            if p != '.':
                a, b = want[p], got[p]
                if n == 'tar':          # GNU tar cuts times to what its default format holds
                    a, b = a[:4] + (a[4] // 10**9,) + a[5:], b[:4] + (b[4] // 10**9,) + b[5:]
                t.eq(b, a, '%s in %s' % (p, n))
    t.sh('mkdir in; cp -a ../out/. in; diff -r . ../out -x in -x p', cwd=u.mnt)
    got = tree.snapshot(u.m('in'))
    t.same_tree({p: v for p, v in want.items() if p != '.'}, {p: v for p, v in got.items() if p != '.'})
    t.ok(os.stat(u.up('in/s')).st_blocks < 100, 'the hole was filled')
    seen = tree.snapshot(u.mnt)
    u.remount()
    t.same_tree(seen, tree.snapshot(u.mnt), 'after a remount')


@test(timeout=120)
def sqlite(t):
    """Rollback and WAL databases, from the lower and new, with two connections."""
    u = t.union()
    u.check_lowers = False

    def fill(path, mode, start):
        db = sqlite3.connect(path, isolation_level=None)
        db.execute('pragma journal_mode=' + mode)
        db.execute('create table if not exists t (i integer primary key, s text)')
        for i in range(start, start + 50):
            db.execute('insert into t values (?, ?)', (i, 'row %d' % i * 20))
        return db
    fill(u.low('low.db'), 'delete', 0).close()
    u.mount()
    for name, mode in (('low.db', 'delete'), ('low.db', 'wal'), ('new.db', 'wal'), ('new.db', 'truncate')):
        have = 0
        if os.path.exists(u.m(name)):
            db = sqlite3.connect(u.m(name))
            have = db.execute('select count(*) from t').fetchone()[0]
            db.close()
        a = fill(u.m(name), mode, have)
        b = sqlite3.connect(u.m(name))
        t.eq(b.execute('select count(*) from t').fetchone()[0], have + 50)
        a.execute('update t set s = s || "x"')
        t.eq(b.execute('pragma integrity_check').fetchone()[0], 'ok')
        a.close()
        b.close()
    u.remount()
    for name in ('low.db', 'new.db'):
        db = sqlite3.connect(u.m(name))
        t.eq(db.execute('pragma integrity_check').fetchone()[0], 'ok')
        t.eq(db.execute('select count(*) from t').fetchone()[0], 150 if name == 'low.db' else 100)
        db.close()


@test(timeout=120)
def building_software(t):
    """Configure-like and make-like work over a source tree in the lower: timestamps decide."""
    u = t.union(text='f src/a.txt a; f src/b.txt b')
    tree.write(u.low('Makefile'), 'all: out/a out/b\nout/%: src/%.txt\n\tmkdir -p out\n\tcp $< $@\n\techo built $@ >> log\n')
    t.need('make')
    u.mount()
    t.sh('make -s; make -s; touch src/a.txt; make -s; make -s', cwd=u.mnt)
    t.eq(tree.text(u.m('log')), 'built out/a\nbuilt out/b\nbuilt out/a\n')
    u.remount()
    t.sh('make -s', cwd=u.mnt)
    t.eq(tree.text(u.m('log')), 'built out/a\nbuilt out/b\nbuilt out/a\n', 'a remount changed times')


@test(identities=('root',))
def watches(t):
    """inotify on the mount reports changes made through it, before and after a copy-up."""
    u = t.mounted('f f hello; d d')
    fd = k.check(k.libc.inotify_init1(os.O_NONBLOCK))
    for p in (u.m('f'), u.m('d')):
        k.check(k.libc.inotify_add_watch(fd, os.fsencode(p), ctypes.c_uint32(0x2 | 0x4 | 0x100 | 0x200)))
    tree.append(u.m('f'), 'x')
    os.chmod(u.m('f'), 0o600)
    tree.write(u.m('d/n'), 'x')
    os.unlink(u.m('d/n'))
    data = os.read(fd, 4096)
    masks, off = 0, 0
    while off < len(data):
        _, mask, _, n = struct.unpack_from('iIII', data, off)
        masks |= mask
        off += 16 + n
    t.eq(masks & 0x306, 0x306)
    os.close(fd)
