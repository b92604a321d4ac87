/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/ctl-wire.h"

#include <string.h>

_Static_assert(sizeof(struct un_ctl) == UN_CTL_SIZE, "no holes");
_Static_assert(offsetof(struct un_ctl, text) == 32, "no holes");

bool un_ctl_request(struct un_ctl *ret, const char *const *words)
{
	*ret = (struct un_ctl){ .version = UN_CTL_VERSION };
	for (; *words; words++) {
		size_t n = strlen(*words) + 1;

		if (n > sizeof(ret->text) - ret->size)
			return false;
		memcpy(ret->text + ret->size, *words, n);
		ret->size += (uint32_t)n;
	}
	return ret->size > 0;
}

void un_ctl_request_part(struct un_ctl *ret, uint64_t token, uint64_t offset)
{
	*ret = (struct un_ctl){ .version = UN_CTL_VERSION, .token = token, .offset = offset };
}

char **un_ctl_words(const struct un_ctl *c, size_t size)
{
	GPtrArray *words;

	if (size < sizeof(*c) || c->size == 0 || c->size > sizeof(c->text) ||
	    c->text[c->size - 1] != '\0')
		return NULL;
	words = g_ptr_array_new();
	for (size_t at = 0; at < c->size; at += strlen(c->text + at) + 1)
		g_ptr_array_add(words, g_strdup(c->text + at));
	g_ptr_array_add(words, NULL);
	return (char **)g_ptr_array_free(words, FALSE);
}

void un_ctl_answer(struct un_ctl *ret, enum un_ctl_status status, uint64_t token, const char *text,
		   size_t total, uint64_t offset)
{
	size_t n = MIN(total - offset, sizeof(ret->text));

	*ret = (struct un_ctl){
		.version = UN_CTL_VERSION,
		.status = status,
		.token = offset + n < total ? token : 0,
		.offset = offset,
		.size = (uint32_t)n,
		.total = (uint32_t)total,
	};
	if (n)
		memcpy(ret->text, text + offset, n);
}

bool un_ctl_append(const struct un_ctl *c, GString *text, bool *ret_more)
{
	if (c->offset != text->len || c->size > sizeof(c->text) || c->total < c->offset ||
	    c->size > c->total - c->offset)
		return false;
	g_string_append_len(text, c->text, c->size);
	*ret_more = text->len < c->total;
	/* More without a way to get it, or a part that brings nothing. */
	return !*ret_more || (c->token && c->size);
}
