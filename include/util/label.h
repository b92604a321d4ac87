/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* Of SELinux, for the mount: context=, fscontext=, defcontext=, rootcontext=. */
enum un_label {
	UN_LABEL_CONTEXT,
	UN_LABEL_FS,
	UN_LABEL_DEFAULT,
	UN_LABEL_ROOT,
	UN_LABELS,
};
