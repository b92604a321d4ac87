# SPDX-License-Identifier: GPL-2.0-or-later
"""Rootless podman with the program as its mount_program."""
import os
import subprocess

from . import image, inputs
from .room import Fail, Skip


def run(room):
    inputs.storage(room)
    env = inputs.environment(room)

    def step(name, script, **args):
        return room.step(name, script, needs=('podman', 'crun', 'newuidmap'), env=env, **args)

    tar = inputs.busybox(room)
    step('import busybox', 'podman import %s localhost/busybox; podman images' % tar)
    step('info', 'podman info > info; grep -q "graphDriverName: overlay" info; grep -q "$PROGRAM" info',
         after=('import busybox',))
    step('run', 'test "$(podman run --rm localhost/busybox sh -c "echo x > /f; rm /etc/passwd; test ! -e /etc/passwd; cat /f")" = x',
         after=('import busybox',))
    room.step('nothing left', room.nothing_left, after=('run',))
    if not room.quick:
        containers(room, step)
        build(room, step)
        mapped(room, step)
        rootful(room, env, tar)
        ends(room, step)
    room.sh('podman rm -af -t 0; podman rmi -af; podman system migrate', env=env, limit=120) \
        if 'podman.import busybox' in room.passed else None
    room.step('nothing left at the end', room.nothing_left)


def containers(room, step):
    step('four containers at once', r'''
for i in 1 2 3 4; do
  podman run --name four$i localhost/busybox sh -ec "for j in 1 2 3 4 5 6 7 8 9; do mkdir /d\$j; echo $i > /d\$j/f; mv /d\$j /e\$j; done;
    rm /etc/passwd; chown -R 5:6 /e1; cat /e9/f; ln /e1/f /e1/g; test ! -e /etc/passwd" > out$i 2>&1 & pids="${pids-} $!"
done
for p in $pids; do wait $p; done
for i in 1 2 3 4; do test "$(cat out$i)" = $i; done''', after=('import busybox',))
    step('diff', r'''
podman diff four1 | sort > diff; cat diff
for l in 'D /etc/passwd' 'C /etc' 'A /e1' 'A /e1/f' 'A /e1/g' 'A /e9/f'; do grep -qx "$l" diff; done
test "$(wc -l < diff)" = 21''', after=('four containers at once',))
    step('commit', r'''
podman commit -q four1 localhost/committed
test "$(podman run --rm localhost/committed sh -c 'stat -c "%u:%g %h" /e1/f; cat /e9/f; test ! -e /etc/passwd')" = "5:6 2
1"''', after=('diff',))
    step('start twice', r'''
podman create --name twice localhost/busybox sh -c 'echo x >> /f; cat /f'
test "$(podman start -a twice)" = x
test "$(podman start -a twice)" = "x
x"
podman rm -af -t 0''', after=('import busybox',))
    step('exec in a running container', r'''
podman run -d --name long localhost/busybox sleep 1000
podman exec long sh -c 'echo hi > /tmp/x; chmod 600 /tmp/x'
test "$(podman exec long cat /tmp/x)" = hi
podman cp long:/tmp/x copied; test "$(cat copied)" = hi
podman cp diff long:/tmp/; podman exec long ls -l /tmp/diff
podman kill long; podman wait long || true; podman rm -f -t 0 long''', after=('import busybox',))
    room.step('nothing left after kill', room.nothing_left, after=('exec in a running container',))
    step('an overlay volume', r'''
mkdir -p vol; echo low > vol/f
test "$(podman run --rm -v "$PWD/vol:/v:O" localhost/busybox sh -c 'echo x >> /v/f; echo y > /v/n; cat /v/f /v/n')" = "low
x
y"
test "$(cat vol/f)" = low; test ! -e vol/n''', after=('import busybox',))


def build(room, step):
    try:
        where, tar = inputs.context(room), inputs.debian(room)
    except Skip as e:
        raise Skip('build: %s' % e)
    step('import debian', 'podman import -q %s localhost/debian' % tar, limit=300)
    links(step)
    deletions(step)
    reference(room)
    step('build', 'podman build -q --network=none --pull=never -t localhost/built %s' % where, limit=900, after=('import debian',))
    step('save', 'rm -f built.tar; podman save -q -o built.tar localhost/built', limit=300, after=('build',))
    step('load', 'podman rmi -f localhost/built; podman load -q -i built.tar; test "$(podman run --rm localhost/built '
         'hello-union)" = hello; podman run --rm localhost/built sh -ec "test ! -e /etc/debian_version; '
         'test -d /etc/apt.moved; test ! -e /etc/apt; ls /links | grep -qx again"', limit=300, after=('save',))
    room.step('layers as with the kernel', lambda: compare(room, room.path('home/built.tar')), after=('save',))
    step('run what is in a layer twice', r'''
podman run --name again localhost/built sh -c 'rm /etc/issue/in; touch /etc/issue/in2'
podman diff again | grep -x 'D /etc/issue/in'; podman diff again | grep -x 'A /etc/issue/in2'
podman rm again''', after=('build',))


def deletions(step):
    step('what an image deletes: diff, commit, save, load', r'''
mkdir -p gone; printf 'FROM localhost/busybox\nRUN mkdir -p /o /t && touch /o/a /o/b /t/x /t/y /w\n%s' \
  'RUN rm /w /t/x && rm -r /o && mkdir /o && touch /o/new /keep && touch /.wh.kaniko
' > gone/Containerfile
podman build -q --network=none --pull=never --layers -t localhost/gone gone
podman diff localhost/gone | sort > gone.1
for l in 'D /w' 'D /t/x' 'D /o/a' 'D /o/b' 'A /o/new' 'A /keep'; do grep -qx "$l" gone.1; done
! grep -E '/t/y|wh\.' gone.1
podman save -q -o gone.tar localhost/gone; podman rmi -f localhost/gone; podman load -q -i gone.tar
podman diff localhost/gone | sort > gone.2; diff gone.1 gone.2
podman run --name left localhost/gone sh -c 'test ! -e /w; test ! -e /t/x; echo /o/*; rm /t/y; touch /.wh.keep; echo /.wh*; ls /keep' > gone.3
test "$(tr '\n' ' ' < gone.3)" = "/o/new /.wh.keep /keep "
podman diff left | grep -x 'D /t/y'; podman start -a left | grep '^/\.wh\.keep'
podman commit -q left localhost/gone2; podman rm left
podman run --rm localhost/gone2 sh -c 'test ! -e /w; test ! -e /t/y; echo /t/*' ''', after=('import busybox',))


def links(step):
    step('hard links of a lower layer stay one file', r'''
mkdir -p links; printf 'FROM localhost/busybox\nRUN mkdir /l && echo 1 > /l/a && ln /l/a /l/b && ln /l/a /l/c\n%s' \
  'RUN rm /l/a && echo 2 >> /l/b && chmod 600 /l/c && cat /l/c && ln /l/c /l/d
' > links/Containerfile
podman build -q --network=none --pull=never -t localhost/links links
podman run --rm localhost/links sh -c 'cat /l/b /l/c /l/d; stat -c "%a %h" /l/b /l/c /l/d' > links.out
test "$(tr '\n' ' ' < links.out)" = "1 2 1 2 1 2 600 3 600 3 600 3 "''', after=('import busybox',))


def reference(room):
    """
    The same image made with the kernel's overlayfs (by the same user: Linux 5.11), once for podman and
    buildah. The file in the run directory
    makes containers/storage compare trees as it does with a mount program; otherwise it would pack upper
    directories, which also hold what did not change.
    """
    out = room.path('home/kernel.tar')
    if not os.path.exists(out):
        room.step("the kernel's overlayfs for comparison", r'''
mkdir -p "$HOME"; mkdir -p "$XDG_RUNTIME_DIR/containers/overlay"; touch "$XDG_RUNTIME_DIR/containers/overlay/native-diff()-false"
podman import -q %s localhost/debian
podman info > kernel.info; grep "Native Overlay Diff: .false" kernel.info; ! grep mount_program kernel.info
podman build --network=none -q --pull=never -t localhost/built %s
podman save -q -o kernel.tmp localhost/built; podman rmi -af; podman system migrate; mv kernel.tmp %s'''
                  % (room.path('debian.tar'), room.path('context'), out), limit=900,
                  env=inputs.environment(room, 'kernel.conf') |
                  {'HOME': room.path('home/other'), 'XDG_RUNTIME_DIR': room.path('run/other')})


def compare(room, mine):
    there = room.path('home/kernel.tar')
    if not os.path.exists(there):
        raise Skip('no image made with the kernel')
    said = image.difference(image.layers(mine, room.begin), image.layers(there, room.begin))
    if said:
        raise Fail('%d differences\n%s' % (len(said), '\n'.join(said[:40])))


def mapped(room, step):
    """Id mapping by the program: needs the options uidmapping and gidmapping."""
    def check():
        out = subprocess.run([room.program, '--help'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        if os.path.basename(room.program) == 'fuse-unionfs' and 'uidmapping' not in out:
            raise Skip('the program has no option uidmapping')
    for name, flags, want in (('own ids', '--uidmap 0:1000:5000 --gidmap 0:1000:5000', '0:0 0:0 3:4'),
                              ('keep-id', '--userns=keep-id --user 0:0', '0:0 0:0 3:4')):
        def go(flags=flags, want=want):
            check()
            room.sh('test "$(podman run --rm %s localhost/busybox sh -c "touch /tmp/n; chown 3:4 /tmp/n; '
                    'stat -c %%u:%%g /etc /etc/passwd /tmp/n" | tr "\\n" " ")" = "%s "' % (flags, want),
                    env=inputs.environment(room))
        room.step('ids: ' + name, go, after=('import busybox',))


def rootful(room, env, tar):
    room.step('as root', r'''
p="podman --root $DIR/root --runroot $DIR/rootrun --storage-driver overlay --storage-opt overlay.mount_program=$PROGRAM"
$p import -q %s localhost/busybox
test "$($p run --rm localhost/busybox sh -c 'echo x > /f; rm /etc/passwd; mv /tmp /tmp2; stat -c %%u:%%g /f')" = 0:0
$p rmi -af''' % tar, user=False, needs=('podman', 'crun'), env={k: v for k, v in env.items() if 'STORAGE' not in k})


def ends(room, step):
    """Nothing is left over."""
    step('killed containers', r'''
for i in 1 2 3; do podman run -d --name k$i localhost/busybox sh -c 'while :; do echo x > /f; rm /f; done'; done
podman kill k1 k2 k3; podman wait k1 k2 k3 || true; podman rm -f -t 0 k1 k2 k3''', after=('import busybox',))
    room.step('nothing left after killing', room.nothing_left, after=('killed containers',))
    step('100 mounts of a container', r'''
podman create --name m localhost/busybox true
podman unshare bash -euc 'for i in $(seq 100); do d=$(podman mount m); echo $i > $d/f; test "$(cat $d/f)" = $i; podman umount m >/dev/null; done'
podman rm m''', limit=400, after=('import busybox',))
    room.step('nothing left after 100 mounts', room.nothing_left, after=('100 mounts of a container',))
