# SPDX-License-Identifier: GPL-2.0-or-later
"""
Changes made directly in a layer while it is mounted are seen: each kind, in a lower and in the upper. Everything
is in every cache before (lib/live.py: warm), then the layer changes, then it is looked at after `ctl sync`.
At the end of each the whole tree is what a fresh mount of the same layers shows.
"""
import os
import stat
import time

from lib import k, tree
from lib.live import GONE, KERNEL, Mapped, live, result, state


def _pread(fd):
    return os.pread(fd, 100000, 0).decode()


# ---- content

@live('f f old; f d/f old')
def content_in_place(c):
    """Longer, then of the same length, then appended to; the same below a directory."""
    for n in ('f', 'd/f'):
        for text in ('new text', 'NEW TEXT'):
            tree.write(c.at(n), text)
            c.file(n, text)
        tree.append(c.at(n), '+')
        c.file(n, 'NEW TEXT+')


@live('f f aaaa')
def content_of_the_same_size_and_time(c):
    """The modification time is set back: only the change itself tells."""
    st = os.stat(c.at('f'))
    fd = os.open(c.at('f'), os.O_WRONLY)
    for text in ('bbbb', 'cccc', 'dddd'):
        os.pwrite(fd, text.encode(), 0)
        os.utime(c.at('f'), ns=(st.st_atime_ns, st.st_mtime_ns))
        c.file('f', text)
    os.close(fd)


@live('f f aaaa')
def content_many_times_at_once(c):
    """Within one tick of the file system's clock."""
    for i in range(200):
        tree.write(c.at('f'), '%04d' % i)
        if i % 20 == 19:
            c.file('f', '%04d' % i)


@live('f f old-text')
def content_while_it_is_open(c):
    """Through a descriptor that was there before; its size, too."""
    fd = os.open(c.m('f'), os.O_RDONLY)
    c.t.eq(_pread(fd), 'old-text')
    for text in ('new-text', 'much longer than that', 'short'):
        tree.write(c.at('f'), text)
        c.see(lambda: (_pread(fd), os.fstat(fd).st_size), (text, len(text)))
        c.file('f', text)
    os.close(fd)


@live('f f old-text', layers=('upper',))
def content_while_it_is_open_for_writing(c):
    """What others write, and what is written through the mount afterwards, are both in it."""
    fd = os.open(c.m('f'), os.O_RDWR)
    c.t.eq(_pread(fd), 'old-text')
    os.pwrite(fd, b'O', 0)
    c.t.eq(tree.text(c.at('f')), 'Old-text')
    tree.write(c.at('f'), 'NEW-TEXT')
    c.see(lambda: _pread(fd), 'NEW-TEXT')
    os.pwrite(fd, b'n', 0)
    c.see(lambda: _pread(fd), 'nEW-TEXT')
    os.close(fd)
    c.file('f', 'nEW-TEXT')
    c.t.eq(tree.text(c.at('f')), 'nEW-TEXT')


@live('f f ' + 'a' * 9000)
def content_while_it_is_mapped(c):
    """Another process has it mapped and reads it again."""
    p = Mapped(c.m('f'), 9000)
    try:
        c.t.eq(p.read(), 'a')
        for ch in 'bc':
            fd = os.open(c.at('f'), os.O_WRONLY)
            os.pwrite(fd, ch.encode() * 9000, 0)
            os.close(fd)
            c.see(p.read, ch, 'the mapping')
            c.file('f', ch * 9000)
    finally:
        p.close()


@live('f f 1234567890; f g 1234567890')
def truncated(c):
    """To nothing, to less, to more; with and without an open descriptor."""
    fd = os.open(c.m('g'), os.O_RDONLY)
    for n, text in ((4, '1234'), (0, ''), (3, '\0\0\0')):
        for name in 'fg':
            os.truncate(c.at(name), n)
            c.file(name, text)
        c.see(lambda: (_pread(fd), os.fstat(fd).st_size), (text, n))
    os.close(fd)


@live('f f old; f d/f old; f new new; f d/new new', below='f f below')
def replaced_by_rename(c):
    """As editors do it: the new one from the same directory, and from elsewhere; of the same length."""
    for n in ('f', 'd/f'):
        os.rename(c.at(os.path.join(os.path.dirname(n), 'new')), c.at(n))
        c.file(n, 'new')
        c.gone(os.path.join(os.path.dirname(n), 'new'))
        os.rename(c.aside('f f odd') + '/f', c.at(n))
        c.file(n, 'odd')


@live('f f old; f new new')
def replaced_while_it_is_open(c):
    """Who has it open keeps the old one; the name is the new one."""
    fd = os.open(c.m('f'), os.O_RDONLY)
    c.t.eq(_pread(fd), 'old')
    os.rename(c.at('new'), c.at('f'))
    c.file('f', 'new')
    c.t.eq(_pread(fd), 'old')
    fd2 = os.open(c.m('f'), os.O_RDONLY)
    c.t.eq((_pread(fd2), _pread(fd)), ('new', 'old'))
    os.close(fd)
    os.close(fd2)


@live('f f 1234; f g 1234; f h 1234', timeout=20)
def replaced_by_what_is_no_file_while_it_is_open(c):
    """A fifo, a socket, a whiteout at its name: the old text or that it is gone, and the daemon does not wait for a
    writer nor pass on what opening such a thing says."""
    fds = [os.open(c.m(n), os.O_RDONLY) for n in 'fgh']
    for fd in fds:
        c.t.eq(_pread(fd), '1234')
    away = c.aside('p f; s g; w h')
    for n, fd in zip('fgh', fds):
        os.rename(away + '/' + n, c.at(n))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        got = result(_pread, fd)
        c.t.ok(got in ('1234',) + GONE, '%s: %s' % (n, got))
    c.see(lambda: state(c.m('f')), (('fifo', ''), True))
    c.see(lambda: stat.S_ISSOCK(os.lstat(c.m('g')).st_mode), True)
    c.gone('h')
    for fd in fds:
        os.close(fd)


@live('f a A; f b B; f x/1 one; f y/2 two')
def exchanged(c):
    """Two files, and two directories, change places."""
    k.rename2(c.at('a'), c.at('b'), k.RENAME_EXCHANGE)
    k.rename2(c.at('x'), c.at('y'), k.RENAME_EXCHANGE)
    c.file('a', 'B')
    c.file('b', 'A')
    c.dir('x', '2')
    c.dir('y', '1')
    c.file('x/2', 'two')
    c.gone('x/1', 'y/2')


@live('l l one', below='l b below')
def links_replaced(c):
    """A symbolic link's target is another; a file becomes a link."""
    os.unlink(c.at('l'))
    os.symlink('two', c.at('l'))
    c.link('l', 'two')
    os.symlink('three', c.at('b'))
    c.link('b', 'three')
    os.unlink(c.at('l'))
    tree.write(c.at('l'), 'file')
    c.file('l', 'file')


# ---- created

@live('d d; f d/x 1', misses=('new', 'd/new', 'd/dir', 'd/l', 'd/p', 'd/h'))
def created_over_a_cached_miss(c):
    """File, directory with something in it, link, fifo, hard link, where each was known not to be."""
    c.put('f new 1; f d/new 2; f d/dir/y 3; l d/l x; p d/p; h d/h d/x')
    c.file('new', '1')
    c.file('d/new', '2')
    c.dir('d/dir', 'y')
    c.file('d/dir/y', '3')
    c.link('d/l', 'x')
    c.see(lambda: state(c.m('d/p')), (('fifo', ''), True))
    c.file('d/h', '1')
    c.dir('d', 'x', 'new', 'dir', 'l', 'p', 'h')


@live('f d/x 1', below='f m/x 1; d empty', misses=('d/a',))
def created_in_a_directory_already_listed(c):
    """In one of this layer alone, in one of the layer below that merges now, in an empty one."""
    c.put('f d/new 1')
    c.see(lambda: tree.names(c.m('d')), ['new', 'x'])       # only the listing, nothing is looked up
    c.put('f m/new 1')
    c.see(lambda: tree.names(c.m('m')), ['new', 'x'])
    c.put('f empty/new 1')
    c.see(lambda: tree.names(c.m('empty')), ['new'])
    c.put('f top 1')
    c.see(lambda: tree.names(c.u.mnt), ['d', 'empty', 'm', 'top'])
    for n in ('d/new', 'm/new', 'empty/new', 'top'):
        c.file(n, '1')


@live('f m/a 1', below='f m/b 1', misses=('m/new',))
def created_in_a_merged_directory(c):
    """In either layer of it."""
    c.put('f m/new 1')
    c.dir('m', 'a', 'b', 'new')
    c.file('m/new', '1')
    tree.write(c.below + '/m/newer', '2')
    c.dir('m', 'a', 'b', 'new', 'newer')
    c.file('m/newer', '2')


@live('d m', below='f f below; f m/f below; f dir/x 1; f file below; f open below')
def created_above_one_below(c):
    """It hides the one below: a file a file, a file a directory, a directory a file. What is open stays what it is."""
    fd = os.open(c.m('open'), os.O_RDONLY)
    c.t.eq(_pread(fd), 'below')
    c.put('f f above; f m/f above; f dir file; f file/x in; f open above')
    for n in ('f', 'm/f', 'open'):
        c.file(n, 'above')
    c.file('dir', 'file')
    c.dir('file', 'x')
    c.file('file/x', 'in')
    c.t.eq(_pread(fd), 'below')
    os.close(fd)


@live(below='f d/x below; f d/y below; f d/s/z below', misses=('d/new',))
def created_directory_that_now_merges(c):
    """Empty first, then filled; one more, moved in whole."""
    os.mkdir(c.at('d'))
    c.dir('d', 's', 'x', 'y')
    c.file('d/x', 'below')
    c.put('f d/new 1; f d/x above')
    c.dir('d', 'new', 's', 'x', 'y')
    c.file('d/new', '1')
    c.file('d/x', 'above')
    os.rename(c.aside('f s/more 1; f s/z above') + '/s', c.at('d/s'))
    c.dir('d/s', 'more', 'z')
    c.file('d/s/z', 'above')
    c.file('d/s/more', '1')


@live(misses=('a', 'a/b', 'a/b/c'))
def created_deep(c):
    """A whole tree at once, each level known not to be; then one below a level that is known now."""
    c.put('f a/b/c/d/e 1')
    c.file('a/b/c/d/e', '1')
    c.see(lambda: result(os.lstat, c.m('a/b/x')), 'ENOENT')
    c.put('f a/b/x/y 2')
    c.file('a/b/x/y', '2')


@live('f d/f 1', misses=('t',))
def created_and_removed_again(c):
    """Many times: what is seen is the last."""
    for i in range(50):
        tree.write(c.at('t'), str(i))
        if i % 10 == 0:
            c.file('t', str(i))
        os.unlink(c.at('t'))
        if i % 10 == 5:
            c.gone('t')
    c.gone('t')
    tree.write(c.at('t'), 'last')
    c.file('t', 'last')


# ---- removed

@live('f f above; f only 1; f m/x above; f m/only 1', below='f f below; f m/x below; f m/y below')
def removed(c):
    """The one below shows through; where there is none, nothing."""
    for n in ('f', 'only', 'm/x', 'm/only'):
        os.unlink(c.at(n))
    c.file('f', 'below')
    c.file('m/x', 'below')
    c.gone('only', 'm/only')
    c.dir('m', 'x', 'y')
    c.root('f', 'm')


@live('f f above; f only 1', below='f f below')
def removed_while_it_is_open(c):
    """Who has it open reads on, and asks for its attributes."""
    fds = [os.open(c.m(n), os.O_RDONLY) for n in ('f', 'only')]
    c.t.eq([_pread(fd) for fd in fds], ['above', '1'])
    os.unlink(c.at('f'))
    os.unlink(c.at('only'))
    c.file('f', 'below')
    c.gone('only')
    c.t.eq([_pread(fd) for fd in fds], ['above', '1'])
    c.t.eq([os.fstat(fd).st_size for fd in fds], [5, 1])
    for fd in fds:
        os.close(fd)


@live('f m/a 1; f d/x/y 1; f hides 1', below='f m/b 1; f hides/below 1')
def removed_directories(c):
    """Of a merged one the part below stays; one alone goes with all in it; a file that hid a directory."""
    c.t.sh('rm -r m d hides', cwd=c.layer)
    c.dir('m', 'b')
    c.gone('m/a', 'd', 'd/x', 'd/x/y')
    c.dir('hides', 'below')
    c.file('hides/below', '1')


# ---- marks

@live('d m', below='f f below; f m/f below; f d/x 1')
def whiteout_made(c):
    """Of a file, in a merged directory, of a directory."""
    c.put('w f; w m/f; w d')
    c.gone('f', 'm/f', 'd', 'd/x')
    c.root('m')
    c.dir('m')


@live('w f; w m/f; w d', below='f f below; f m/f below; f d/x 1', misses=('f', 'm/f', 'd', 'd/x'))
def whiteout_removed(c):
    """What it hid is back."""
    for n in ('f', 'm/f', 'd'):
        os.unlink(c.at(n))
    for n in ('f', 'm/f'):
        c.file(n, 'below')
    c.dir('d', 'x')
    c.file('d/x', '1')
    c.root('d', 'f', 'm')


@live('f f above; w g', below='f f below; f g below', misses=('g',))
def whiteout_replaces_a_file_and_back(c):
    """A file becomes a whiteout, a whiteout a file."""
    os.unlink(c.at('f'))
    c.put('w f')
    os.unlink(c.at('g'))
    c.put('f g above')
    c.gone('f')
    c.file('g', 'above')


@live('ox m; f m/a 1; xw m/b', below='f m/b below; f m/c below; f m/d below', misses=('m/b',))
def whiteout_as_an_xattr(c):
    """An empty file with a mark becomes one, and is removed again."""
    if KERNEL and c.which == 'upper':
        c.t.skip('the kernel lists these of its upper')
    c.put('xw m/c')
    c.gone('m/c')
    os.unlink(c.at('m/b'))
    c.file('m/b', 'below')
    c.dir('m', 'a', 'b', 'd')


@live('f m/a 1', below='f m/b 1; f m/s/c 1; f m/a below')
def opaque_set(c):
    """What is below in that directory is hidden."""
    c.put('o m')
    c.dir('m', 'a')
    c.gone('m/b', 'm/s', 'm/s/c')
    c.file('m/a', '1')


@live('o m; f m/a 1', below='f m/b 1; f m/s/c 1; f m/a below', misses=('m/b', 'm/s'))
def opaque_removed(c):
    """What is below in that directory is back."""
    os.removexattr(c.at('m'), c.t.ns + '.overlay.opaque')
    c.dir('m', 'a', 'b', 's')
    c.file('m/b', '1')
    c.file('m/s/c', '1')
    c.file('m/a', '1')


# ---- attributes

def _mode(p):
    return '%o' % stat.S_IMODE(os.lstat(p).st_mode)


@live('f f 1 644; d d 755; f m/x 1', below='f m/y 1')
def mode(c):
    """Of a file, a directory, a merged directory."""
    for n, bits in (('f', 0o600), ('f', 0o4755), ('d', 0o711), ('m', 0o750), ('m/x', 0o444)):
        os.chmod(c.at(n), bits)
        c.see(lambda: _mode(c.m(n)), '%o' % bits, n)


@live('d d 755; f d/x 1; f f 1 644', identities=('root', 'user'))
def mode_that_closes(c):
    """A right is taken away and given back: who is asked is told so at once."""
    def look(n):
        return result((lambda: c.t.as_user(1000, tree.text, c.m(n)) if c.t.root else tree.text(c.m(n))))
    c.t.eq((look('d/x'), look('f')), ('1', '1'))
    for _ in range(2):
        os.chmod(c.at('d'), 0)
        os.chmod(c.at('f'), 0)
        c.see(lambda: look('d/x'), 'EACCES')
        c.see(lambda: look('f'), 'EACCES')
        os.chmod(c.at('d'), 0o755)
        os.chmod(c.at('f'), 0o644)
        c.see(lambda: look('d/x'), '1')
        c.see(lambda: look('f'), '1')


@live(layers=('upper',))
def mode_and_times_of_the_root(c):
    os.chmod(c.layer, 0o750)
    c.see(lambda: _mode(c.u.mnt), '750')
    os.utime(c.layer, ns=(5, 5))
    c.see(lambda: os.lstat(c.u.mnt).st_mtime_ns, 5)


@live('f f 1; d d; l l x', below='d d', identities=('root',))
def owner(c):
    for n in ('f', 'd', 'l'):
        for ids in ((7, 8), (1000, 1000)):
            os.lchown(c.at(n), *ids)
            c.see(lambda: (os.lstat(c.m(n)).st_uid, os.lstat(c.m(n)).st_gid), ids, n)


@live('f f 1; d d; f m/x 1; l l x', below='d m')
def times(c):
    """Of a file, directories, a link: set, and moved by a change."""
    for n in ('f', 'd', 'm', 'l'):
        for ns in (1500000000123456789, 7):
            os.utime(c.at(n), ns=(ns, ns), follow_symlinks=False)
            c.see(lambda: os.lstat(c.m(n)).st_mtime_ns, ns, n)
    tree.write(c.at('f'), '2')
    tree.write(c.at('d/new'), '')
    for n in ('f', 'd'):
        c.see(lambda: os.lstat(c.m(n)).st_mtime_ns, os.lstat(c.at(n)).st_mtime_ns, n)
        c.see(lambda: os.lstat(c.m(n)).st_ctime_ns, os.lstat(c.at(n)).st_ctime_ns, n)


@live('f f 1; x f user.a 1; d d; d m', below='d m')
def xattr(c):
    """Set where there was none, changed, removed; read by name and listed."""
    for n in ('f', 'd', 'm'):
        c.t.eq(result(os.getxattr, c.m(n), 'user.k'), 'ENODATA')
        for value in (b'one', b'two', b'longer'):
            os.setxattr(c.at(n), 'user.k', value)
            c.see(lambda: os.getxattr(c.m(n), 'user.k'), value, n)
            c.see(lambda: 'user.k' in os.listxattr(c.m(n)), True, n)
        os.removexattr(c.at(n), 'user.k')
        c.see(lambda: os.getxattr(c.m(n), 'user.k'), 'ENODATA', n)
        c.see(lambda: 'user.k' in os.listxattr(c.m(n)), False, n)


@live('f f 1 644; d d 755', needs=('setfacl', 'getfacl'))
def acl(c):
    """Set, changed, removed; a default one of a directory."""
    who = '1000' if c.t.identity != 'userns' else '0'
    if c.t.run('setfacl', '-m', 'u:%s:r' % who, c.aside('f probe') + '/probe', check=False):
        c.t.skip('no ACLs on this file system')

    def told(p):
        return c.t.run('getfacl', '-n', '-p', '--omit-header', p)
    for n, args in (('f', ['-m', 'u:%s:rw' % who]), ('f', ['-m', 'u:%s:-' % who]), ('f', ['-b']),
                    ('d', ['-d', '-m', 'u:%s:rwx' % who]), ('d', ['-m', 'g:%s:r' % who]), ('d', ['-b'])):
        told(c.m(n))
        c.t.run('setfacl', *args, c.at(n))
        c.see(lambda: told(c.m(n)), told(c.at(n)), '%s %s' % (n, args))
        c.see(lambda: _mode(c.m(n)), _mode(c.at(n)), n)


# ---- directories

@live('f d/x 1; f d/s/y 2', below='f e/z 3; f d/b below', misses=('new', 'new/x'))
def directory_renamed(c):
    """To a new name, then onto one that the layer below has: merged. What is below the old name stays there."""
    os.rename(c.at('d'), c.at('new'))
    c.dir('d', 'b')
    c.dir('new', 's', 'x')
    c.file('new/s/y', '2')
    c.gone('d/x', 'd/s/y')
    os.rename(c.at('new'), c.at('e'))
    c.gone('new', 'new/x')
    c.dir('e', 's', 'x', 'z')
    c.file('e/s/y', '2')
    c.file('e/z', '3')


@live('f d/x 1; f d/s/y 2; f other/o 1', below='f d/s/b below')
def directory_moved_away(c):
    """Out of the layer, into another directory of it, and back with other things in it."""
    away = c.aside('d here')
    os.rename(c.at('d'), away + '/d')
    c.dir('d', 's')
    c.dir('d/s', 'b')
    c.gone('d/x', 'd/s/y')
    tree.build(away, 'f d/more 1; f d/s/more 2')
    os.unlink(away + '/d/x')
    os.rename(away + '/d', c.at('other/d'))
    c.dir('other/d', 'more', 's')
    c.file('other/d/s/y', '2')
    os.rename(c.at('other/d'), c.at('d'))
    c.gone('other/d', 'other/d/s', 'd/x')
    c.dir('d', 'more', 's')
    c.dir('d/s', 'b', 'more', 'y')


@live('f d/x 1; f d/s/y 2; f e/x 1; f file 1', below='f d/b below; f file/b below')
def directory_replaced_by_a_file(c):
    """And a file by a directory, which merges."""
    c.t.sh('rm -r d e; echo -n file > d; echo -n file > e; rm file; mkdir file; echo -n 1 > file/n', cwd=c.layer)
    c.file('d', 'file')
    c.file('e', 'file')
    c.see(lambda: result(os.lstat, c.m('d/x')), 'ENOTDIR')
    c.dir('file', 'b', 'n')


@live('f d/x 1', misses=('d/new',))
def directory_replaced_by_another(c):
    """Of the same name with other things in it: removed and made again, and exchanged with one made elsewhere."""
    for i in range(3):
        c.t.sh('rm -r d; mkdir d; echo -n %d > d/n%d' % (i, i), cwd=c.layer)
        c.dir('d', 'n%d' % i)
        c.file('d/n%d' % i, str(i))
        c.gone('d/x')
    k.rename2(c.aside('f d/y 1') + '/d', c.at('d'), k.RENAME_EXCHANGE)
    c.dir('d', 'y')
    c.gone('d/n2')


@live('f a 1; f d/x 1; f d/s/y 1; l l a', below='f a below; f d/b below', misses=('new',))
def root_emptied_and_refilled(c):
    for i in range(2):
        c.t.sh('rm -r -- *', cwd=c.layer)
        c.root('a', 'd')
        c.file('a', 'below')
        c.dir('d', 'b')
        c.gone('l', 'd/x', 'd/s/y')
        c.put('f a again; f d/x again; f d/t/z again; f new 1')
        c.root('a', 'd', 'new')
        c.file('a', 'again')
        c.dir('d', 'b', 't', 'x')
        c.file('d/t/z', 'again')
        c.file('d/x', 'again')
        c.gone('d/s')


@live(layers=('upper',))
def another_link_of_the_same_number(c):
    """What was made in the mount is removed by others, and a file system gives the number to the next at once."""
    for i in range(5):
        os.symlink('mine', c.m('l%d' % i))
        c.link('l%d' % i, 'mine')
        time.sleep(0.02)
        os.unlink(c.at('l%d' % i))
        os.symlink('theirs', c.at('l%d' % i))
        c.link('l%d' % i, 'theirs')
