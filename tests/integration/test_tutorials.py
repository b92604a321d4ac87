# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the tutorials of overlay file systems have one do by hand, step by step on the kernel's overlayfs and on ours:
after each step both say the same, word for word, without a pause between change and look.

The kernel's is mounted again before each look, because it keeps the names it knows; LIVE_KERNEL=warm leaves it
mounted, and the test then says at which steps it differs from what its layers hold. LIVE_SYNC=1: `ctl sync` before
our looks. LIVE_REPORT=PATH: to PATH.root and PATH.userns, how many looks had to be repeated, and for how long.
"""
import os
import stat
import time

from lib import k, test, tree
from lib.live import KERNEL, OPTIONS, remount, result, sync, by_kernel

PATIENCE = 0.02         # for what the kernel answers from its cache

# Title; commands in the directory with lower1 (on top), lower2, upper and merged; what to look at.
STEPS = (
    ('mounted', '', 'ls . | ls d | cat one | cat both | cat d/x | cat nothing'),
    ('a lower file is appended to', 'echo more >> lower1/one', 'cat one | ls .'),
    ('and written anew', 'echo other > lower1/one', 'cat one | ls .'),
    ('and edited as sed -i does it', 'sed -i s/other/OTHER/ lower1/one', 'cat one | ls .'),
    ('a file is added to a lower', 'echo new > lower2/new', 'cat new | ls .'),
    ('a name looked for in vain before is made', 'echo here > lower1/nothing', 'cat nothing | ls .'),
    ('one is added above one shown', 'echo top > lower1/two', 'cat two | ls .'),
    ('a file is added to a directory listed before', 'echo y > lower1/d/y', 'ls d | cat d/y'),
    ('a file is put into the upper', ': > upper/dropped', 'ls . | cat dropped'),
    ('filled there', 'echo text > upper/dropped', 'cat dropped | ls .'),
    ('and removed from there', 'rm upper/dropped', 'cat dropped | ls .'),
    ('one in the upper hides one below', 'echo upper > upper/one', 'cat one | ls .'),
    ('and is removed: the one below is back', 'rm upper/one', 'cat one | ls .'),
    ('written through the mount: copied up', 'echo mine >> merged/both', 'cat both | ls . | upper'),
    ('then the lower changes below it', 'echo "never seen" > lower1/both', 'cat both | ls .'),
    ('the copy is removed from the upper', 'rm upper/both', 'cat both | ls .'),
    ('removed through the mount: a whiteout', 'rm merged/two', 'cat two | ls . | upper'),
    ('the whiteout is removed from the upper', 'rm upper/two', 'cat two | ls . | upper'),
    ('a whiteout is made by hand', 'mknod upper/one c 0 0', 'cat one | ls .'),
    ('a directory is removed and made again: opaque',
     'rm upper/one; rm -r merged/d; mkdir merged/d; echo z > merged/d/z',
     'ls d | cat d/x | cat d/z | cat one | upper'),
    ('and goes from the upper', 'rm -r upper/d', 'ls d | cat d/x | cat d/y | cat d/z'),
    ('a lower file gets another mode', 'chmod 600 lower1/one; chmod 711 lower1/d', 'ls .'),
    ('a directory with a file in the upper merges', 'mkdir upper/d; echo u > upper/d/u', 'ls d | cat d/u | cat d/x'),
    ('a lower directory gets another name', 'mv lower1/e lower1/f', 'ls . | ls e | ls f | cat f/in | cat e/in'),
    ('all is removed from a lower', 'rm -r lower1/*', 'ls . | cat one | cat two | ls d | ls f'),
)
LAYERS = ('f lower1/one one; f lower2/two two; f lower1/both lower1; f lower2/both lower2; f lower1/d/x x; '
          'f lower2/d/w w; f lower1/e/in in; d upper; d work; d merged')


def _line(p, name):
    st = os.lstat(p)
    return '%s %d %d %d %s' % (stat.filemode(st.st_mode), st.st_uid, st.st_gid, st.st_size, name)


def _look(root, what):
    word, _, rel = what.partition(' ')
    p = os.path.join(root, 'merged', rel)
    if word == 'cat':
        return result(lambda: (os.lstat(p).st_size, tree.text(p)))
    if word == 'upper':
        return [n for n in tree.walk(root + '/upper')]
    return result(lambda: [_line(os.path.join(p, n), n) for n in ['.'] + tree.names(p)])


def _stack(t, name):
    root = t.plain(name)
    tree.build(root, LAYERS, t.ns)
    u = t.union(lowers=[root + '/lower1', root + '/lower2'], name=name + '-log')
    u.mnt, u.upper, u.work = root + '/merged', root + '/upper', root + '/work'
    u.check_lowers = False
    return root, u


@test(identities=('root', 'userns'), timeout=120)
def steps_as_on_the_kernel(t):
    """25 steps, 0 differ; how many looks were repeated is in the log."""
    theirs, v = _stack(t, 'kernel')
    ours, u = _stack(t, 'ours')
    try:
        by_kernel(v, v.mnt, v.lowers, True)
    except OSError as e:
        t.skip('no kernel overlayfs here: %s' % e)
    u.mount(*OPTIONS)
    all_looks = sorted({w.strip() for _, _, looks in STEPS for w in looks.split('|')} - {'upper'})
    count, repeated, longest, differ, late = 0, 0, 0, [], []
    for title, commands, looks in STEPS:
        looks = list(dict.fromkeys([w.strip() for w in looks.split('|')] + all_looks))
        t.sh(commands, cwd=theirs, check=KERNEL != 'warm')
        if KERNEL != 'warm':
            remount(v)
        want = [_look(theirs, w) for w in looks]
        t.sh(commands, cwd=ours, check=KERNEL != 'warm')
        begin = time.monotonic()
        if os.environ.get('LIVE_SYNC'):
            sync(u)
        count += len(looks)
        for w, said in zip(looks, want):
            got, n = _look(ours, w), 0
            while got != said and time.monotonic() < begin + PATIENCE * t.slow:
                time.sleep(0.0001)
                got, n = _look(ours, w), n + 1
            if got != said:
                differ.append('%s | %s\n     got: %s\n    want: %s' % (title, w, got, said))
            elif n:
                repeated += n
                longest = max(longest, time.monotonic() - begin)
                late.append(title)
    k.umount(v.mnt)
    u.umount()
    report = '%s: %d steps, %d looks, %d repeated, the last seen after %.1f ms; late: %s' % (
        t.identity, len(STEPS), count, repeated, longest * 1000,
        ', '.join(dict.fromkeys(late)) or 'none')
    print(report)
    if os.environ.get('LIVE_REPORT'):
        tree.write('%s.%s' % (os.environ['LIVE_REPORT'], t.identity), report + '\n',
                   os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    bad = list(dict.fromkeys(d.partition(' | ')[0] for d in differ))
    t.ok(not differ, '%d of %d steps differ: %s\n  %s' % (len(bad), len(STEPS), ', '.join(bad),
                                                        '\n  '.join(differ[:12])))
