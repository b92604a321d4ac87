# SPDX-License-Identifier: GPL-2.0-or-later
"""Rootless buildah with the program as its mount_program."""
from . import inputs, podman


def run(room):
    inputs.storage(room)
    env = inputs.environment(room)
    where, tar = inputs.context(room), inputs.debian(room)

    def step(name, script, **args):
        return room.step(name, script, needs=('podman', 'buildah', 'crun', 'newuidmap'), env=env, **args)

    # buildah has no import; podman's store is the same.
    step('import', 'podman import -q %s localhost/debian; podman import -q %s localhost/busybox'
         % (tar, inputs.busybox(room)), limit=300)
    step('a container file', 'buildah build --layers --network=none --pull-never -q -t localhost/bud %s' % where,
         limit=900, after=('import',))
    step('save', 'rm -f buildah.tar; buildah push -q localhost/bud docker-archive:buildah.tar:localhost/bud', limit=300,
         after=('a container file',))
    podman.reference(room)
    room.step('layers as with the kernel', lambda: podman.compare(room, room.path('home/buildah.tar')), after=('save',))
    step('from, run, copy, config, commit', r'''
c=$(buildah from --pull-never localhost/busybox)
buildah run --network=none $c sh -ec 'mkdir /a; echo 1 > /a/f; rm /bin/id; mv /tmp /tmp2'
echo copied > file; buildah copy $c file /a/
buildah add --chown 3:4 $c file /a/owned
buildah config --cmd 'cat /a/f /a/file' $c
buildah commit -q $c localhost/made; buildah rm $c
test "$(podman run --rm localhost/made sh -c 'cat /a/f /a/file; stat -c %u:%g /a/owned; test ! -e /bin/id; test ! -e /tmp2/x')" = "1
copied
3:4"''', after=('import',))
    step('mount and change from outside', r'''
buildah unshare bash -euc '
c=$(buildah from --pull-never localhost/busybox)
m=$(buildah mount $c)
mkdir $m/new; cp -a $m/bin/. $m/new/; rm -r $m/bin; mv $m/new $m/bin; chown -R 9:9 $m/etc
buildah umount $c; m=$(buildah mount $c)
test "$(stat -c %u $m/etc/passwd)" = 9; test -x $m/bin/busybox; test ! -e $m/new
buildah umount $c; buildah commit -q $c localhost/outside; buildah rm $c'
test "$(podman run --rm localhost/outside sh -c "stat -c %u /etc/passwd")" = 9''', after=('import',))
    step('from scratch', r'''
buildah unshare bash -euc 'c=$(buildah from scratch); m=$(buildah mount $c); cp -a %s $m/; mkdir -m 1777 $m/tmp
buildah umount $c; buildah commit -q $c localhost/scratched; buildah rm $c'
buildah images | grep scratched''' % room.path('hello.deb'))
    step('chroot isolation, thirty layers', r'''
mkdir -p many; { echo FROM localhost/busybox
for i in $(seq 30); do echo "RUN echo $i > /f$i; rm -f /f$((i - 2)); mkdir -p /d; mv /d /d.$i; mv /d.$i /d; echo $i >> /d/log"; done; } > many/Containerfile
buildah build --isolation=chroot --network=host --layers --pull-never -q -t localhost/many many
test "$(podman run --rm localhost/many sh -c 'echo /f*; while read l; do n=$l; done < /d/log; echo $n')" = "/f29 /f30
30"''', limit=400, after=('import',))
    room.sh('buildah rm -a; podman rmi -af; podman system migrate', env=env)
    room.step('nothing left at the end', room.nothing_left)
