# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon may do while it serves: what files need, and nothing that takes limits out of force."""
import os

from lib import k, test, tree

SYS_RESOURCE = 24
NEEDED = (0, 1, 2, 3, 4, 6, 7, 9, 21, 23, 27, 31, 32, 33)    # src/util/caps.c


def _capabilities(status):
    with open(status) as f:
        return {l.split()[0]: int(l.split()[1], 16) for l in f if l.startswith('Cap')}


@test()
def serving_threads(t):
    """Of every thread but the one that unmounts: no capability beyond those that files need."""
    u = t.mounted('f f hello')
    for i in range(4):
        tree.write(u.m('n%d' % i), 'x')
    task = '/proc/%d/task' % u.daemon_pid()
    beyond = {}
    for tid in os.listdir(task):
        caps = _capabilities('%s/%s/status' % (task, tid))
        beyond[tid] = [n for n in range(64) if (caps['CapEff:'] | caps['CapPrm:']) >> n & 1 and n not in NEEDED]
    t.ok(len(beyond) >= 2)
    t.ok(sum(bool(v) for v in beyond.values()) <= 1, beyond)
    t.ok(not t.root or _capabilities('/proc/self/status')['CapEff:'] & 1 << 12 == 0 or
         sum(bool(v) for v in beyond.values()) == 1, 'the test sees nothing')


@test(identities=('root',), filesystems=('ext4',))
def reserved_blocks(t):
    """Blocks that are reserved for somebody are not given to others because the daemon is root."""
    if not _capabilities('/proc/self/status')['CapEff:'] >> SYS_RESOURCE & 1:
        t.skip('root has no CAP_SYS_RESOURCE here')
    t.need('mkfs.ext4')
    image, disk = t.dir + '/image', t.dir + '/disk'
    os.mkdir(disk)
    with open(image, 'wb') as f:
        f.truncate(40 << 20)
    t.run('mkfs.ext4', '-q', '-m', '50', image)
    t.run('mount', '-o', 'loop,resuid=12345', image, disk)
    try:
        u = t.union(root=disk + '/union')
        u.mount()
        size = 0
        with open(u.m('f'), 'wb', buffering=0) as f:
            try:
                while size < 40 << 20:
                    size += f.write(bytes(65536))
            except OSError:
                pass
        t.ok(size < 20 << 20, size)
        u.umount()
    finally:
        k.umount(disk, k.MNT_DETACH)
