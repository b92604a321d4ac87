# SPDX-License-Identifier: GPL-2.0-or-later
"""
A filter of system calls, as container engines have them: `mount(preexec_fn=refusing(unshare=errno.EPERM))`. Needs
root, be it of a user namespace.
"""
import ctypes
import platform
import struct

from .kernel import libc
from .registry import Skip

NUMBERS = {'x86_64': dict(unshare=272, eventfd2=290, mknodat=259, linkat=265, renameat2=316, name_to_handle_at=303,
                          epoll_create1=291, setxattr=188, setxattrat=463, openat2=437, copy_file_range=326,
                          fallocate=285, open_tree=428, fanotify_init=300, io_uring_setup=425),
           'aarch64': dict(unshare=97, eventfd2=19, mknodat=33, linkat=37, renameat2=276, name_to_handle_at=264,
                           epoll_create1=20, setxattr=5, setxattrat=463, openat2=437, copy_file_range=285,
                           fallocate=47, open_tree=428, fanotify_init=262, io_uring_setup=425)}
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
RET_ALLOW, RET_ERRNO = 0x7fff0000, 0x00050000
LD_WORD_ABS, JEQ, RET = 0x20, 0x15, 0x06


def refusing(**calls):
    """A function for preexec_fn: each call named fails with its errno."""
    numbers = NUMBERS.get(platform.machine())
    if not numbers:
        raise Skip('system call numbers of %s not known here' % platform.machine())
    program = [(LD_WORD_ABS, 0, 0, 0)]              # seccomp_data.nr
    for name, err in calls.items():
        program += [(JEQ, 0, 1, numbers[name]), (RET, 0, 0, RET_ERRNO | err)]
    program.append((RET, 0, 0, RET_ALLOW))
    code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *i) for i in program))
    fprog = struct.pack('HxxxxxxP', len(program), ctypes.addressof(code))

    def install():
        if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), 'seccomp')
    install.code = code
    return install
