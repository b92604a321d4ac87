# SPDX-License-Identifier: GPL-2.0-or-later
"""The example sandboxes: what they keep, what they throw away, and that they touch nothing else."""
import os
import shutil
import subprocess
import time

from lib import test, tree

EXAMPLES = os.path.join(os.path.dirname(os.path.realpath(__file__)), '../../contrib/examples')
SANDBOXES = (('sandbox-unshare', 'unshare'), ('sandbox-bwrap', 'bwrap'))


def _copy(directory):
    """Runs as root: a plain user may not reach the project's directory."""
    where = os.path.join(directory, 'examples')
    os.mkdir(where)
    for name, _ in SANDBOXES:
        shutil.copy(os.path.join(EXAMPLES, name), where)
    os.chmod(where, 0o755)


def _run(t, name, directory, script, upper=None, check=True, **kw):
    env = dict(os.environ, FUSE_UNIONFS=t.binary, TMPDIR=t.dir)
    if upper:
        env['UPPER'] = upper
    p = subprocess.run([os.path.join(t.dir, 'examples', name), directory, 'sh', '-euc', script], env=env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50 * t.slow, **kw)
    if check:
        t.eq((p.returncode, p.stdout.split('changed:')[0]), (0, ''))
    return p


def _sandboxes(t):
    """Those whose programs are here and which may run."""
    d = os.path.join(t.dir, 'probe')
    os.mkdir(d)
    found = [name for name, needs in SANDBOXES
             if shutil.which(needs) and _run(t, name, d, ':', check=False).returncode == 0]
    if not found:
        t.skip('neither user namespaces nor bubblewrap can be used')
    return found


@test(identities=('root', 'user'), timeout=120, prepare=_copy)
def sandboxes_touch_nothing_else(t):
    """A directory of somebody else's beside the upper; a kept upper goes on with its index; scratch goes."""
    for name in _sandboxes(t):
        base = os.path.join(t.dir, name)
        tree.build(base, 'f p/a one; h p/b p/a; f .work/precious 1; f .work/work/precious 2; f kept.work/x 3', t.ns)
        before = tree.names(t.dir)
        _run(t, name, base + '/p', 'echo two >a; test "$(cat b)" = two')
        t.eq(tree.text(base + '/p/a'), 'one')
        t.eq(tree.names(t.dir), before, 'a scratch layer stays behind')
        upper = base + '/kept'
        _run(t, name, base + '/p', 'echo two >a; rm -f none', upper)
        t.eq(tree.text(upper + '/a'), 'two\n')
        _run(t, name, base + '/p', 'test "$(cat a)" = two; test "$(cat b)" = two; echo c >c', upper)
        t.eq(tree.text(base + '/p/b'), 'one')
        for f, text in (('.work/precious', '1'), ('.work/work/precious', '2'), ('kept.work/x', '3')):
            t.eq(tree.text(os.path.join(base, f)), text, f)
        t.eq(tree.names(t.dir), before)
        t.run('chmod', '-R', 'u+rwX', base)
        shutil.rmtree(base)


@test(identities=('root', 'user'), timeout=120, prepare=_copy)
def sandboxes_do_not_share(t):
    """Two runs at once on one upper: the second is told, and the first comes to its end."""
    for name in _sandboxes(t):
        base = os.path.join(t.dir, name)
        tree.build(base, 'f p/a one', t.ns)
        env = dict(os.environ, FUSE_UNIONFS=t.binary, UPPER=base + '/kept', TMPDIR=t.dir)
        first = subprocess.Popen([os.path.join(t.dir, 'examples', name), base + '/p', 'sh', '-c', 'echo x >began; sleep 4'],
                                 env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while first.poll() is None and not os.path.exists(base + '/kept/began'):
            time.sleep(0.02)
        t.eq(first.poll(), None, 'the first run does not begin')
        p = _run(t, name, base + '/p', ':', base + '/kept', check=False)
        t.eq((p.returncode, 'is in use by another run' in p.stdout), (1, True), p.stdout)
        t.eq(first.wait(), 0)
        # Nobody holds it any more, the daemon that is just ending neither.
        _run(t, name, base + '/p', 'test -e began', base + '/kept')
        t.run('chmod', '-R', 'u+rwX', base)
        shutil.rmtree(base)
