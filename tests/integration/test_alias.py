# SPDX-License-Identifier: GPL-2.0-or-later
"""
Hard links of a lower in the upper itself: what those see who read it without its index. And counts
when names come and go in the lower behind the union's back.
"""
import os
import random
import time

from lib import test, tree
from lib.overlay import index_entries
from lib.registry import Fail

THREE = 'f 0 old; h 1 0; h d/2 0; f other x'


def _wait(t, cond, what, limit=6):
    end = time.monotonic() + limit * t.slow
    while not cond():
        if time.monotonic() > end:
            raise Fail(what)
        time.sleep(0.05)


def _names(d):
    return sorted(r for r in tree.walk(d) if not os.path.isdir(os.path.join(d, r)))


def _as_lower(t, u, name='next'):
    """Another mount over the upper and the lower, with an upper of its own."""
    v = t.union(lowers=[u.upper] + u.lowers, name=name)
    v.check_lowers = False
    return v.mount()


@test()
def touched_names_are_in_the_upper(t):
    """Each name that was changed itself, as the kernel has it; kept over kill -9 after a second."""
    u = t.mounted(THREE)
    for n in ('0', '1', 'd/2'):
        os.utime(u.m(n))
    _wait(t, lambda: _names(u.upper) == ['0', '1', 'd/2'], 'no entries while idle')
    t.eq({os.stat(u.m(n)).st_nlink for n in ('0', '1', 'd/2')}, {3})
    t.eq(len({os.stat(u.up(n)).st_ino for n in ('0', '1', 'd/2')}), 1)
    u.remount()
    t.eq({os.stat(u.m(n)).st_nlink for n in ('0', '1', 'd/2')}, {3})
    for n in ('0', '1', 'd/2'):
        os.unlink(u.m(n))
    u.umount()
    t.eq(index_entries(u), [])


@test()
def known_names_at_copy_up(t):
    """Names that were looked up before are in the upper when the change is done."""
    u = t.mounted(THREE)
    for n in ('0', '1', 'd/2'):
        os.stat(u.m(n))
    tree.append(u.m('1'), '+')
    t.eq(_names(u.upper), ['0', '1', 'd/2'])
    t.eq({tree.text(u.up(n)) for n in ('0', '1', 'd/2')}, {'old+'})
    t.eq({os.stat(u.m(n)).st_nlink for n in ('0', '1', 'd/2')}, {3})


@test()
def as_a_lower(t):
    """Names known before the change and after it, by the end of the mount."""
    u = t.mounted(THREE)
    os.stat(u.m('0'))
    tree.append(u.m('1'), '+')
    t.eq(tree.text(u.m('d/2')), 'old+')
    u.umount()
    v = _as_lower(t, u)
    t.eq([tree.text(v.m(n)) for n in ('0', '1', 'd/2')], ['old+'] * 3)
    t.eq(len({os.stat(v.m(n)).st_ino for n in ('0', '1', 'd/2')}), 1)


@test()
def as_a_lower_after_kill(t):
    """A second of idleness does it as well."""
    u = t.mounted(THREE)
    tree.append(u.m('1'), '+')
    for n in ('0', 'd/2'):
        os.stat(u.m(n))
    _wait(t, lambda: len(_names(u.upper)) == 3, 'no entries while idle')
    u.kill()
    v = _as_lower(t, u)
    t.eq([tree.text(v.m(n)) for n in ('0', '1', 'd/2')], ['old+'] * 3)


@test(identities=('root',))
def forgotten_names(t):
    """The kernel has forgotten the name before its turn comes."""
    u = t.mounted(THREE)
    tree.append(u.m('1'), '+')
    os.stat(u.m('d/2'))
    with open('/proc/sys/vm/drop_caches', 'w') as f:
        f.write('2')
    u.umount()
    t.eq(_names(u.upper), ['1', 'd/2'])


@test()
def many_names(t):
    n = 300
    u = t.mounted('f 0 old; ' + '; '.join('h d%d/x%d 0' % (i % 7, i) for i in range(1, n)))
    before = sorted(os.path.join(d, f) for d, _, fs in os.walk(u.mnt) for f in fs)
    for f in before:
        os.stat(f)
    tree.append(u.m('0'), '+')
    t.eq(os.stat(u.m('0')).st_nlink, n)
    u.umount()
    t.eq(len(_names(u.upper)), n)
    t.eq({tree.text(u.up(f)) for f in _names(u.upper)}, {'old+'})
    u.mount()
    t.eq(os.stat(u.m('0')).st_nlink, n)


@test(alone=True)       # while the kernel remembers
def nobody_sees_it(t):
    """An entry that nobody asked for moves no time, also where its directory has to be copied up."""
    u = t.mounted(THREE)
    tree.append(u.m('1'), '+')

    def look():
        return [(s.st_ctime_ns, s.st_mtime_ns, s.st_ino)
                for s in (os.stat(u.m(n)) for n in ('', 'd', '1', 'd/2'))]
    before = look()
    _wait(t, lambda: 'd/2' in _names(u.upper), 'no entry while idle')
    t.eq(look(), before)
    with open(u.m('1'), 'r+b') as f:
        os.fchmod(f.fileno(), 0o600)
    t.ok(look()[2][0] != before[2][0], 'the time of a change that was asked for')


@test()
def removed_and_renamed_meanwhile(t):
    u = t.mounted('f 0 old; h 1 0; h d/2 0; h d/3 0; h e/4 0')
    tree.append(u.m('0'), '+')
    for n in ('1', 'd/2', 'd/3', 'e/4'):
        os.stat(u.m(n))
    os.unlink(u.m('1'))
    os.rename(u.m('d/2'), u.m('d/5'))
    os.unlink(u.m('e/4'))
    os.rmdir(u.m('e'))
    u.remount()
    t.eq(_names(u.mnt), ['0', 'd/3', 'd/5'])
    t.eq({os.stat(u.m(n)).st_nlink for n in ('0', 'd/3', 'd/5')}, {3})
    t.eq({tree.text(u.m(n)) for n in ('0', 'd/3', 'd/5')}, {'old+'})


@test(identities=('root',))
def no_room_for_entries(t):
    """What is refused holds up nobody and is said at the end."""
    u = t.mounted(THREE)
    tree.append(u.m('1'), '+')
    os.mkdir(u.up('d')) if not os.path.isdir(u.up('d')) else None
    t.sh('chattr +i d', cwd=u.upper)
    try:
        t.eq(tree.text(u.m('d/2')), 'old+')
        u.umount()
    finally:
        t.sh('chattr -i d', cwd=u.upper)


# ---- names that come and go in the lower

@test()
def links_made_below(t):
    """As reported: the count must not reach 0 while names are known."""
    u = t.union(text='f 0 old; h 1 0')
    u.check_lowers = False
    u.mount('index=on')
    os.utime(u.m('0'))
    for n in '23':
        os.link(u.low('0'), u.low(n))
    for n in '23':
        os.unlink(u.m(n))
    t.ok(os.stat(u.m('0')).st_nlink > 0)
    os.link(u.m('0'), u.m('4'))
    for n in ('0', '1', '4'):
        t.ok(os.stat(u.m(n)).st_nlink >= 3, n)
    u.remount()
    t.eq(_names(u.mnt), ['0', '1', '4'])
    for n in ('0', '1', '4'):
        t.ok(os.stat(u.m(n)).st_nlink > 0, n)
        os.unlink(u.m(n))
    t.eq(os.listdir(u.mnt), [])
    u.remount()
    t.eq(os.listdir(u.mnt), [])
    u.umount()
    t.eq(index_entries(u), [])


def _check(t, u, said):
    for n in sorted(os.listdir(u.mnt)):
        try:
            st = os.lstat(u.m(n))
        except FileNotFoundError:
            continue                # went from the lower: the listing is of before
        t.ok(st.st_nlink > 0, '%s: %s has no links' % (said, n))


@test(timeout=120)
def random_links_below(t):
    """Links come and go in the lower, mounted or not, while the union is used: what is listed can be
    had and removed, and nothing is left."""
    for seed in range(12):
        r = random.Random(seed)
        u = t.union(text='; '.join(['f k.0 old'] + ['h k.%d k.0' % i for i in range(1, 4)]),
                    name='s%d' % seed)
        u.check_lowers = False
        # What has metadata only needs the name below that its data had.
        gone = seed % 2
        u.mount('index=on', 'metacopy=%s' % ('off' if gone else 'on'))
        fresh, log, seen, lost = 4, [], set(), False
        for step in range(40):
            names, below = sorted(os.listdir(u.mnt)), sorted(os.listdir(u.lowers[0]))
            what = r.choice(('touch', 'ln', 'rm', 'mv', 'stat', 'below-ln', 'below-rm', 'remount'))
            n = r.choice(names) if names else None
            seen.update(names)
            # When the last name goes that is known the index forgets the file, and what is hidden of it.
            lost = lost or not names and bool(set(below) - seen)
            log.append('%s %s' % (what, n))
            said = 'seed %d: %s' % (seed, '; '.join(log))
            try:
                if what == 'remount':
                    u.remount()
                elif not n:
                    continue
                elif what == 'below-ln' and below:
                    os.link(u.low(r.choice(below)), u.low('k.%d' % fresh))
                elif what == 'below-rm' and gone and len(below) > 1:
                    os.unlink(u.low(r.choice(below)))
                elif what == 'touch':
                    os.utime(u.m(n))
                elif what == 'stat':
                    os.stat(u.m(n))
                elif what == 'ln':
                    os.link(u.m(n), u.m('k.%d' % fresh))
                elif what == 'mv':
                    os.rename(u.m(n), u.m('k.%d' % fresh))
                elif what == 'rm':
                    os.unlink(u.m(n))
            except FileNotFoundError:
                if n and os.path.lexists(u.low(n)):
                    raise Fail(said)
            except FileExistsError:
                pass
            except OSError as e:
                # The one object it stands for is not there any more.
                if not gone:
                    raise Fail('%s: %s' % (said, e))
            fresh += 1
        u.remount()
        _check(t, u, said)
        for n in sorted(os.listdir(u.mnt)):
            os.unlink(u.m(n))
        t.eq(os.listdir(u.mnt), [], said)
        u.remount()
        t.eq(os.listdir(u.mnt), [], said)
        u.umount()
        if not gone and not lost:
            t.eq(index_entries(u), [], said)
