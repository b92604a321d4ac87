/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `fuse-unionfs ctl` and a daemon say to each other: one ioctl on the root directory of the mount.
 *
 * A command goes there as words, each with a NUL behind it. The answer is text, and a number that says what
 * kind of answer it is. What does not fit into one call stays with the daemon, under a token, and is fetched
 * by more calls, in order; with the last part the daemon forgets it, as it does after a while or when it has
 * too many. All numbers are of the machine's own byte order, and the struct has no holes.
 */
#pragma once

#include <glib.h>
#include <linux/ioctl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Of the struct and the meaning of its fields. Commands may come without a new one: a daemon that does not
 * know the command says so.
 */
#define UN_CTL_VERSION 1

/* One page in all: an ioctl has 14 bits for the size, and every buffer of a FUSE request holds this. */
#define UN_CTL_SIZE 4096
#define UN_CTL_TEXT (UN_CTL_SIZE - 32)

enum un_ctl_status {
	UN_CTL_DONE,    /* text: for standard output */
	UN_CTL_FAILED,  /* text: a sentence that says why */
	UN_CTL_MISUSED, /* text: a sentence that says which word is wrong */
	UN_CTL_UNKNOWN, /* the daemon does not know the command; text: the daemon's version */
	UN_CTL_VERSIONS, /* ... nor this struct; version: the one it knows; text: the daemon's version */
	UN_CTL_LOST, /* the rest of the answer is not there any more */
};

struct un_ctl {
	uint32_t version; /* of whoever fills the struct */
	uint32_t status;  /* answer: enum un_ctl_status */
	/*
	 * Request: 0 for a command, else the token of the answer that is fetched. Answer: the token of
	 * what is left, 0 if this is the last part.
	 */
	uint64_t token;
	uint64_t offset; /* of this part in the whole text */
	uint32_t size;   /* bytes of text in this part */
	uint32_t total;  /* answer: bytes of the whole text */
	char text[UN_CTL_TEXT];
};

#define UN_CTL_IOCTL _IOWR(0xf5, 0x75, struct un_ctl)

/* Bytes of @c that have to travel in an answer. */
static inline size_t un_ctl_length(const struct un_ctl *c)
{
	return offsetof(struct un_ctl, text) + c->size;
}

/* A request for the command @words (NULL at the end). False: the words are too long. */
bool un_ctl_request(struct un_ctl *ret, const char *const *words);
/* A request for the part at @offset. */
void un_ctl_request_part(struct un_ctl *ret, uint64_t token, uint64_t offset);

/* The words of a request of @size bytes (g_strfreev), at least one; NULL: it is malformed. */
char **un_ctl_words(const struct un_ctl *c, size_t size);

/* The part of @text (of @total bytes) at @offset, which is at most @total. @token: of what is left, if any. */
void un_ctl_answer(struct un_ctl *ret, enum un_ctl_status status, uint64_t token, const char *text,
		   size_t total, uint64_t offset);
/*
 * Append the text of an answer to @text. False: it is not the part that comes next. *ret_more: others follow.
 */
bool un_ctl_append(const struct un_ctl *c, GString *text, bool *ret_more);
