# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cases start from: root trees as tar files, a Debian package, a container file."""
import os
import shutil
import subprocess

from .room import Skip

TREE = os.path.join(os.path.dirname(os.path.realpath(__file__)), '../../integration/debian_root.py')


def busybox(room):
    """Path of a tar file with a tree of busybox only."""
    out = room.path('busybox.tar')
    if not os.path.exists(out):
        tool = shutil.which('busybox')
        if not tool:
            raise Skip('busybox-static is missing')
        room.sh('mkdir -p t/bin t/etc t/tmp t/proc t/dev t/sys; cp %s t/bin/busybox; for n in sh ls cat echo sleep '
                'rm mv mkdir chown chmod ln touch stat test id; do ln -s busybox t/bin/$n; done;'
                'echo root:x:0:0::/:/bin/sh > t/etc/passwd; tar --sort=name --owner=0 --group=0 -C t -cf %s .; rm -r t'
                % (tool, out), user=False)
    return out


def debian(room):
    """Path of a tar file with a small Debian tree; all times in it are in the past."""
    out = room.path('debian.tar')
    if not os.path.exists(out):
        p = subprocess.run([TREE, '--tree', 'bookworm'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        tree = p.stdout.strip().split('\n')[-1]
        if p.returncode or not os.path.isdir(tree):
            raise Skip('no Debian tree: ' + tree)
        room.sh('tar --xattrs --one-file-system --numeric-owner -C %s --exclude=./var/cache/apt/archives/*.deb '
                '--exclude=./var/lib/apt/lists/* --exclude=./.complete -cf %s .' % (tree, out), limit=300, user=False)
    return out


def package(room):
    """A .deb with a hard link, a conffile, a symlink, an empty directory and a script."""
    out = room.path('hello.deb')
    if not os.path.exists(out):
        room.sh(r'''
mkdir -p p/DEBIAN p/usr/bin p/usr/share/hello/empty p/etc
printf 'Package: hello-union\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: test\n' > p/DEBIAN/control
echo /etc/hello.conf > p/DEBIAN/conffiles
printf '#!/bin/sh\nset -e\necho configured > /var/lib/hello-union\n' > p/DEBIAN/postinst; chmod 755 p/DEBIAN/postinst
printf '#!/bin/sh\necho hello\n' > p/usr/bin/hello-union; chmod 755 p/usr/bin/hello-union
ln p/usr/bin/hello-union p/usr/bin/hello-union-2; ln -s hello-union p/usr/bin/hello-union-3
echo a=b > p/etc/hello.conf; head -c 300000 /dev/zero > p/usr/share/hello/data
find p -exec touch -h -d @1600000000 {} +
dpkg-deb --root-owner-group -b p %s; rm -r p''' % out, user=False)
    return out


CONTAINERFILE = r'''FROM localhost/debian
RUN rm /etc/debian_version
RUN mv /etc/apt /etc/apt.moved && mv /usr/share/perl5 /usr/share/perl5.moved
RUN chown -R 7:8 /usr/share/base-files /var/lib/pam && chmod 700 /usr/share/base-files
COPY hello.deb /tmp/
RUN dpkg -i /tmp/hello.deb && rm /tmp/hello.deb /var/log/dpkg.log /var/log/alternatives.log
RUN mkdir /links && cd /links && echo data > a && ln a b && ln a c && ln -s a s && ln /etc/hello.conf /links/conf
RUN cd /links && rm a && ln b e
COPY setfattr /tmp/
RUN cd /links && touch x y && mkdir d && /tmp/setfattr -n user.one -v 1 x && /tmp/setfattr -n user.two -v 2 d && \
    /tmp/setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 y && rm /tmp/setfattr
RUN rm -r /usr/share/bug /usr/share/menu; mkdir /usr/share/bug && echo new > /usr/share/bug/only
RUN rm -r /usr/share/common-licenses && echo file > /usr/share/common-licenses && \
    rm /etc/issue && mkdir /etc/issue && echo in > /etc/issue/in && rm /etc/issue.net && ln -s issue /etc/issue.net
RUN mkfifo -m 640 /links/fifo && truncate -s 1M /links/sparse && echo end >> /links/sparse && \
    mkdir -m 3770 /links/sticky && touch -d @1500000000 /links/past && touch -h -d @1500000001 /links/s && \
    touch "/links/ümlaut and space" "/links/$(printf 'n%.0s' $(seq 200))"
RUN echo root:x:0:0:changed:/root:/bin/sh >> /etc/passwd && sed -i s/root/root/ /etc/group && chmod u+s /bin/true
RUN rm /links/* -rf && rmdir /links && mkdir /links && touch /links/again
'''


def context(room):
    """A directory with the container file and what it copies."""
    where = room.path('context')
    if not os.path.isdir(where):
        os.mkdir(where)
        tool = shutil.which('setfattr')
        if not tool:
            raise Skip('setfattr is missing')
        shutil.copy(package(room), where + '/hello.deb')
        shutil.copy(tool, where + '/setfattr')
        with open(where + '/Containerfile', 'w') as f:
            f.write(CONTAINERFILE)
        for n in os.listdir(where):
            os.utime(os.path.join(where, n), (1600000000, 1600000000))
    return where


def storage(room):
    """Settings for podman and buildah: one store with the program, one with the kernel's overlayfs."""
    where = room.path('conf')
    if os.path.isdir(where):
        return
    os.mkdir(where)
    for name, text in {
        'user.conf': '[storage]\ndriver = "overlay"\nrunroot = "%s/containers"\ngraphroot = "%s/storage"\n'
                     '[storage.options.overlay]\nmount_program = "%s"\n' % (room.runtime, room.home, room.program),
        'kernel.conf': '[storage]\ndriver = "overlay"\nrunroot = "%s/other/containers"\ngraphroot = "%s/other/storage"\n'
                       % (room.runtime, room.home),
        'containers.conf': '[containers]\nnetns = "none"\ncgroups = "disabled"\n[engine]\nruntime = "crun"\n'
                           'cgroup_manager = "cgroupfs"\nevents_logger = "file"\n[network]\n',
        'registries.conf': 'unqualified-search-registries = []\n',
        'policy.json': '{"default": [{"type": "insecureAcceptAnything"}]}\n',
    }.items():
        with open(os.path.join(where, name), 'w') as f:
            f.write(text)
    for d in ('/etc/containers', '/var/lib/containers'):        # ours for this room only
        os.makedirs(d, exist_ok=True)
        subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', d], check=True)
    shutil.copy(where + '/policy.json', '/etc/containers/policy.json')
    shutil.copy(where + '/registries.conf', '/etc/containers/registries.conf')


def environment(room, conf='user.conf'):
    return {'CONTAINERS_CONF': room.path('conf/containers.conf'), 'CONTAINERS_STORAGE_CONF': room.path('conf', conf)}
