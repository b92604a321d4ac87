# SPDX-License-Identifier: GPL-2.0-or-later
"""FUSE over io_uring: whether this machine can, and switching it on."""
import os

PARAMETER = '/sys/module/fuse/parameters/enable_uring'


def _is_on():
    with open(PARAMETER) as f:
        return f.read().strip() in ('Y', '1')


def switch_on(_directory=None):
    """It concerns only mounts to come which ask for it, so it stays on: others may be using it."""
    try:
        if not _is_on():
            with open(PARAMETER, 'w') as f:
                f.write('Y')
    except OSError:
        pass


def why_not():
    """None, or why it cannot be had here."""
    if not os.path.exists(PARAMETER):
        return 'this kernel has no FUSE over io_uring (Linux 6.14, CONFIG_FUSE_IO_URING)'
    if not _is_on():
        return '%s is N, and cannot be set' % PARAMETER
    try:
        with open('/proc/sys/kernel/io_uring_disabled') as f:
            if f.read().strip() != '0':
                return 'the sysctl kernel.io_uring_disabled forbids it'
    except OSError:
        pass
    return None
