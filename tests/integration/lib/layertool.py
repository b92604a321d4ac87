# SPDX-License-Identifier: GPL-2.0-or-later
"""fuse-unionfs-layer, and whether what it says explains what is seen."""
import base64
import importlib.machinery
import importlib.util
import json
import os
import subprocess

from .registry import Fail, Skip

HERE = os.path.dirname(os.path.realpath(__file__))


def program():
    if 'UNIONFS_LAYER' not in os.environ:
        raise Skip('fuse-unionfs-layer was not built')
    return os.environ['UNIONFS_LAYER']


def tool(*args, status=0, **kw):
    """Its standard output; the exit status must be @status (one, or several), with 0 and 1 silence on stderr."""
    p = subprocess.run([program(), *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, errors='surrogateescape', **kw)
    if p.returncode not in (status if isinstance(status, tuple) else (status,)):
        raise Fail('%s: exit status %d\n%s%s' % (' '.join(args), p.returncode, p.stdout[-3000:], p.stderr[-3000:]))
    if p.returncode < 2 and p.stderr:
        raise Fail('%s: %s' % (' '.join(args), p.stderr[-3000:]))
    return p.stdout if p.returncode < 2 else p.stdout + p.stderr


def _path(c, name):
    if name + '_base64' in c:
        return os.fsdecode(base64.b64decode(c[name + '_base64']))
    return c[name]


def changes(*layers):
    """What `diff` says, as {path: change}; a path may have two: something was removed, something is there."""
    out = json.loads(tool('diff', '--json', *layers, status=(0, 1)))
    for c in out['changes']:
        c['path'] = _path(c, 'path')
        if 'from' in c:
            c['from'] = _path(c, 'from')
    return out['changes']


def _above(p):
    """@p and the directories it is in, from the inside out."""
    while p:
        yield p
        p = os.path.dirname(p)


FIELDS = ('content', 'mode', 'owner', 'times', 'xattrs')


def _differ(a, b):
    """Which of FIELDS differ between two of tree.describe()."""
    out = set()
    is_dir = (int(a[0], 8) & 0o170000) == 0o040000
    for field, same in (('mode', a[0] == b[0]), ('owner', a[1:3] == b[1:3]), ('content', (a[3], a[6]) == (b[3], b[6])),
                        ('times', is_dir or a[4] == b[4]), ('xattrs', a[5] == b[5])):
        if not same:
            out.add(field)
    return out


def unexplained(before, after, said):
    """
    Lines: what of two snapshots (the lowers alone, the union) the changes do not explain, and what they say that
    is not so.
    """
    bad = []
    moved = {c['from']: c['path'] for c in said if c['kind'] == 'moved'}
    came = {to: at for at, to in moved.items()}

    def was(p):                 # where the lowers have what the change is about
        for a in _above(p):
            if a in came:
                return came[a] + p[len(a):]
        return p

    # What was at a name in the directory that is here now, even if something else has come to this name.
    gone = {os.path.join(was(os.path.dirname(c['path'])), os.path.basename(c['path']))
            for c in said if c['kind'] in ('removed', 'type')}
    want = {}
    for q, d in before.items():
        for a in _above(q):
            if a in moved or a in gone:
                break
        if a in moved:
            want[moved[a] + q[len(a):]] = d
        elif a not in gone:
            want[q] = d
    for g in gone:
        if g not in before:
            bad.append('%s: removed or of another type, and was not there' % g)
    told = {c['path']: c for c in said if c['kind'] != 'removed'}
    for p, c in told.items():
        if p not in after:
            bad.append('%s: %s, and is not there' % (p, c['kind']))
        if c['kind'] in ('added', 'type') and p in want:
            bad.append('%s: %s, and was there' % (p, c['kind']))
        if c['kind'] in ('changed', 'moved') and p not in want:
            bad.append('%s: %s, and was not there' % (p, c['kind']))
    for p, d in after.items():
        c = told.get(p, {})
        if p not in want and c.get('kind') not in ('added', 'type'):
            bad.append('%s: is there, and nothing is said (%s)' % (p, c.get('kind')))
        elif p in want:
            differ = _differ(want[p], d)
            if differ != set(c.get('changed', [])):
                bad.append('%s: differs in %s, said: %s: %r, %r' % (p, sorted(differ), c.get('changed', []),
                                                                    want[p], d))
    for p in want:
        if p not in after:
            bad.append('%s: is missing, and nothing is said' % p)
    return bad


def oracle():
    """The generator of random unions."""
    path = os.path.join(HERE, '../../differential/oracle')
    loader = importlib.machinery.SourceFileLoader('oracle', path)
    spec = importlib.util.spec_from_loader('oracle', loader)
    m = importlib.util.module_from_spec(spec)
    loader.exec_module(m)
    return m


class RandomUnion:
    """A union from the differential generator, mounted by @spec ('kernel', or a command), and changed."""

    def __init__(self, o, where, spec, seed, opts, ops=40, feats=('special', 'xattr', 'own', 'tmpfile')):
        import random
        rng = random.Random(seed)
        self.o, self.feats = o, set(feats)
        sc = o.gen_layers(rng, self.feats)
        self.ctx = o.Ctx(where, 'trusted.')
        os.mkdir(where)
        o.build(self.ctx, sc)
        self.lowers, self.upper, self.work = self.ctx.lowers, self.ctx.upper, self.ctx.work
        self.mnt = self.ctx.mnt
        self.began = bool(sc.layers['U'])   # the upper was not empty
        self.opts, self.spec = opts, spec
        o.do_mount(self.ctx, spec, opts, False)
        pool = [w[1] for layer in sc.layers.values() for w in layer if w[0] in 'dfl']
        done = []
        for _ in range(ops):
            w = o.gen_op(rng, self.feats, pool)
            if w[0] == 'remount':
                continue
            done.append(w)
            try:
                o.run_op(self.ctx, w)
            except OSError:
                continue
            if w[0] in ('rename', 'link', 'mkdir', 'create'):
                pool.append(w[2] if w[0] in ('rename', 'link') else w[1])
        self.done = done

    def umount(self):
        self.o.do_umount(self.ctx)
