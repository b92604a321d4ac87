# SPDX-License-Identifier: GPL-2.0-or-later
"""
Uppers that lack a call: the probe at mount finds that, or finds the call and it is refused later, as sandboxes do
(tests/lib/without). What can be done in another way is, and the log says so once.
"""
import errno
import os
import random
import socket
import subprocess
import time

from lib import k, test, tree
from lib.against import both, exchange, flat, remove, same
from lib.overlay import said

LOWER = ('f log new; f log.1 old; f f 1; f g 2; l l f; f d/x 1; f d/y 2; f d/s/z 3; f e/x 1; d empty; f m/low 1; '
         'f hard 1; h hard2 hard')
LOWER2 = 'f m/low2 1; f m/low wrong; f d/s/z2 1; f d2/a 1'
WORDS = ('exchange', 'noreplace', 'rename_whiteout', 'exchange,rename_whiteout', 'tmpfile', 'link', 'mknod', 'whiteout',
         'xattr', 'handles', 'copy_range,clone', 'fallocate', 'bindfs', 'bindfs,link,mknod')


def _union(t, name, words, late=None, number=None):
    u = t.union(lowers=2, text=LOWER, name=name)
    u.put(LOWER2, 1)
    lib = os.environ.get('UNIONFS_REFUSE_LIB') or t.skip('not the daemon of a build directory')
    env = {'LD_PRELOAD': lib, 'UNIONFS_REFUSE': ','.join(w + ('=%d' % number if number else '')
                                                         for w in words.replace('bindfs', BINDFS).split(',')),
           'ASAN_OPTIONS': 'verify_asan_link_order=0:' + os.environ.get('ASAN_OPTIONS', '')}
    if late:
        env['UNIONFS_REFUSE_FROM'] = late
    u.check_layers = words != 'xattr'       # .wh. names are what is wanted there
    # Files in the index need links and handles, which cannot be had in another way.
    return u.mount(*(('index=off',) if {'link', 'handles', 'bindfs'} & set(words.split(',')) else ()), env=env)


BINDFS = 'exchange,noreplace,rename_whiteout,tmpfile,handles,clone,copy_range'


def _may_fail(words):
    """Without marks no redirect; and what was moved with one before is not found again."""
    return ('EXDEV',) if 'xattr' in words else ()


def _step(u, p, r, tag, words):
    names = [n for n in tree.walk(p) if n != '.'] or ['none']
    dirs = [n for n in names if os.path.isdir(p + '/' + n) and not os.path.islink(p + '/' + n)]
    d = r.choice(dirs + ['.'])
    what = r.randrange(12)
    kw = {'may_fail': _may_fail(words)}
    if what < 4:
        both(u, p, os.rename, r.choice(names), d + '/' + r.choice(['n' + tag, 'x', 's', 'f', 'd', 'empty']), **kw)
    elif what == 4:
        if 'exchange' not in words and 'bindfs' not in words:
            both(u, p, exchange, r.choice(names), r.choice(names), **kw)
    elif what == 5:
        both(u, p, os.rename, r.choice(dirs or names), r.choice(names), **kw)
    elif what == 6:
        both(u, p, os.mkdir, d + '/' + r.choice(['x', 's', 'f', 'm' + tag]))
    elif what == 7:
        both(u, p, lambda x: tree.write(x, tag), d + '/' + r.choice(['f', 'x', 'f' + tag]))
    elif what == 8:
        if 'link' not in words:
            both(u, p, os.link, r.choice([n for n in names if n not in dirs] or names), d + '/' + r.choice(['f', 'h' + tag]))
    else:
        both(u, p, remove, r.choice(names))


def _sequence(t, name, words, late=None, number=None, steps=70, seed=1):
    u = _union(t, name, words, late, number)
    p = flat(t, u, 'plain-' + name)
    if 'handles' in words or 'bindfs' in words or 'xattr' in words or 'link' in words:
        for d in (u.mnt, p):
            t.sh('rm hard2; echo x >> hard', cwd=d)      # no index: the link breaks
    if late:
        t.sh('echo x > warm; mkdir warmed; rm g; mv log.1 warmed', cwd=u.mnt)
        t.sh('echo x > warm; mkdir warmed; rm g; mv log.1 warmed', cwd=p)
        tree.write(late, '')
    r = random.Random(seed)
    for i in range(steps):
        _step(u, p, r, str(i), words)
        if i % 10 == 9:
            same(t, u, p, '%s, after %d steps' % (words, i + 1))
        if i % 35 == 34 and not late:
            u.remount()
            same(t, u, p, '%s, mounted again after %d steps' % (words, i + 1))
    u.umount()
    if late:
        lines = said(u, 'was refused')
        t.eq(len(lines), len(set(lines)), 'said once')
        os.unlink(late)
        u.mount()
        same(t, u, p, 'mounted again with everything')
        u.umount()


@test(timeout=240)
def from_the_start(t):
    for i, words in enumerate(WORDS):
        _sequence(t, 'u%d' % i, words, seed=i)


@test(timeout=240)
def later(t):
    """What marks need cannot come later: without xattrs they are names, which is for the whole mount."""
    for i, words in enumerate(w for w in WORDS if w != 'xattr'):
        for number in (None, 1, 38):        # EPERM, ENOSYS
            _sequence(t, 'u%d-%s' % (i, number), words, t.dir + '/now', number, steps=40, seed=i)


def _rotate(t, u, p):
    """Onto deleted names: a lower file, a copied-up one, lower and new directories; onto a merged directory that was
    emptied, and one that was removed and made anew."""
    def go(script):
        for d in (u.mnt, p):
            t.sh(script, cwd=d)
        same(t, u, p, script)
        u.remount()
        same(t, u, p, script + ', mounted again')

    go('mv log.1 log.2; mv log log.1')
    go('rm f; mv g f')
    go('echo x >> log.1; rm log.2; mv log.1 log.2')
    go('rm log.2; mv d log.2')
    go('rm l; mkdir n; touch n/in; mv n l')
    go('rm m/low m/low2; mkdir n2; touch n2/in; mv -T n2 m')
    go('rm -r e; mkdir e; mkdir n3; touch n3/in; mv -T n3 e')
    go('mv -T log.2 d')
    go('rm d2/a; mv -T d d2')
    go('rmdir empty; mv d2 empty')
    u.umount()


@test(identities=('root',), timeout=120)
def rotate_on_fuse_file_systems(t):
    for kind in ('bindfs', 'fuse2fs'):
        t.need(kind)
        at, back = t.dir + '/at-' + kind, t.dir + '/back-' + kind
        os.mkdir(at)
        if kind == 'fuse2fs':
            with open(back, 'wb') as f:
                f.truncate(64 << 20)
            t.run('mkfs.ext4', '-q', '-F', back)
            t.run('fuse2fs', '-o', 'rw', back, at)
        else:
            os.mkdir(back)
            t.run('bindfs', back, at)
        u = t.union(lowers=2, text=LOWER, name='u-' + kind)
        u.put(LOWER2, 1)
        u.upper, u.work = at + '/upper', at + '/work'
        os.mkdir(u.upper)
        os.mkdir(u.work)
        u.mount()
        p = flat(t, u, 'plain-' + kind)
        _rotate(t, u, p)
        k.umount(at)


@test(identities=('user',), needs=('sshfs',))
def plain_user_on_sshfs(t):
    """The server judges, and nobody else knows: a directory closed to its owner opens, and cannot be looked into. What
    an attempt left that failed so is no obstacle."""
    server = '/usr/lib/openssh/sftp-server'
    if not os.path.exists(server):
        t.skip('no ' + server)
    real, at = t.dir + '/real', t.dir + '/at'
    os.mkdir(real)
    os.mkdir(at)
    ours, its = socket.socketpair()
    sftp = subprocess.Popen([server], stdin=its, stdout=its)
    sshfs = subprocess.Popen(['sshfs', '-f', '-o', 'passive', 'x:' + real, at], stdin=ours, stdout=ours)
    for _ in range(200):
        if k.mounted_at(at):
            break
        time.sleep(0.05)
    for left in ((), ('work',), ('work', 'work/incompat')):
        u = t.union(text='f f 1; f d/x 2', name='u%d' % len(left))
        u.upper, u.work = '%s/upper%d' % (at, len(left)), '%s/work%d' % (at, len(left))
        os.mkdir(u.upper)
        os.mkdir(u.work)
        for n in left:
            os.mkdir(u.work + '/' + n)
        for n in reversed(left):
            os.chmod(u.work + '/' + n, 0)
        u.check_layers = False
        u.mount()
        p = flat(t, u, 'plain%d' % len(left))
        for i in range(2):
            for d in (u.mnt, p):
                t.sh('echo n%d > n%d; mkdir e%d; echo %d >> d/x; rm -f f' % (i, i, i, i), cwd=d)
            same(t, u, p)
            u.remount()
            same(t, u, p, 'mounted again')
        u.umount()
    t.run('fusermount3', '-u', at)
    sshfs.wait(10)
    its.close()
    ours.close()
    sftp.wait(10)


@test(identities=('root',), needs=('chattr',))
def what_cannot_be_written(t):
    """workdir or upperdir immutable, or read-only: one sentence, no mount, nothing made; the other way that it names
    works."""
    u = t.union(text='f f 1')
    u.put('f up 1', 'upper')
    for d in (u.work, u.upper):
        for on, off in ((['chattr', '+i', d], ['chattr', '-i', d]), (['mount', '--bind', '-o', 'ro', u.root, u.root],
                                                                     ['umount', u.root])):
            t.run(*on)
            p = subprocess.run(u.command(()), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, timeout=30 * t.slow)
            t.run(*off)
            t.eq((p.returncode, p.stdout.count('\n')), (1, 1), p.stdout)
            t.ok('cannot be written; to read only' in p.stdout, p.stdout)
            t.eq(os.listdir(u.work), [])
    u.lowers, u.upper, u.work = [u.upper] + u.lowers, None, None
    u.mount()
    t.eq(tree.names(u.mnt), ['f', 'up'])
    u.umount()


@test()
def rotate(t):
    for i, words in enumerate(('exchange', 'exchange,rename_whiteout', 'bindfs', 'bindfs,link', 'bindfs,mknod')):
        u = _union(t, 'u%d' % i, words)
        _rotate(t, u, flat(t, u, 'plain%d' % i))


@test()
def handles_refused_later(t):
    """With an index: a name of a changed file whose handle cannot be asked for any more is an error, not the old file."""
    lib = os.environ.get('UNIONFS_REFUSE_LIB') or t.skip('not the daemon of a build directory')
    u = t.union(text='f d/a old; h e/b d/a; f single 1')
    late = t.dir + '/now'
    u.mount()
    tree.append(u.m('d/a'), ' new')
    u.umount()
    t.eq(os.path.lexists(u.up('e/b')), False)
    u.mount(env={'LD_PRELOAD': lib, 'UNIONFS_REFUSE': 'handles', 'UNIONFS_REFUSE_FROM': late,
                 'ASAN_OPTIONS': 'verify_asan_link_order=0:' + os.environ.get('ASAN_OPTIONS', '')})
    tree.write(late, '')
    t.eq(tree.text(u.m('single')), '1')
    try:
        t.eq(tree.text(u.m('e/b')), 'old new')
    except OSError as e:
        t.ok(e.errno in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO), e)
    t.eq(tree.text(u.m('d/a')), 'old new')
    os.unlink(late)
