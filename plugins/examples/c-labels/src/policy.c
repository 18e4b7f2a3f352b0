// The glue between d2k and labels.c: what the policy says of itself, and its answers.
#include <stdlib.h>
#include <string.h>

#include "labels.h"

static void *room(size_t size) {
	void *made = malloc(size);
	if (made == NULL)
		abort();
	return made;
}

// One text of several.
static text joined(const text *parts, size_t count) {
	text whole = {NULL, 0};
	for (size_t at = 0; at < count; at++)
		whole.len += parts[at].len;
	whole.ptr = room(whole.len);
	uint8_t *end = whole.ptr;
	for (size_t at = 0; at < count; at++) {
		memcpy(end, parts[at].ptr, parts[at].len);
		end += parts[at].len;
	}
	return whole;
}

static text of(const char *words) { return (text){(uint8_t *)words, strlen(words)}; }

// d2k gives back what it was told; nothing that is constant may be handed out for that.
static text copy(const char *words) { return joined((text[]){of(words)}, 1); }

void exports_d2k_policy_about_describe(exports_d2k_policy_about_info_t *ret) {
	exports_d2k_policy_about_setting_t *setting = room(sizeof *setting);
	setting->name = copy("require.*");
	setting->default_ = (text){NULL, 0};
	setting->help = copy("Labels that every container needs: key, or key=value.");
	*ret = (exports_d2k_policy_about_info_t){
		.name = copy("c-labels"),
		.version = copy("1.0.0"),
		.summary = copy("Refuses containers without the labels that the settings require."),
		.settings = {setting, 1},
	};
}

void exports_d2k_policy_about_check(
	exports_d2k_policy_about_settings_t *settings, exports_d2k_policy_about_list_problem_t *ret
) {
	ret->ptr = room(settings->len * sizeof *ret->ptr);
	ret->len = 0;
	for (size_t at = 0; at < settings->len; at++) {
		text value = settings->ptr[at].f1;
		if (is_label(value))
			continue;
		exports_d2k_policy_about_problem_t *problem = &ret->ptr[ret->len++];
		problem->setting = joined((text[]){settings->ptr[at].f0}, 1);
		problem->message = joined((text[]){of("\""), value, of("\" is no label: key, or key=value")}, 3);
	}
}

// False is a refusal.
bool exports_d2k_policy_workload_decide(
	exports_d2k_policy_workload_input_t *input, exports_d2k_policy_workload_settings_t *settings,
	exports_d2k_policy_workload_option_plan_t *ret, exports_d2k_policy_workload_refusal_t *err
) {
	text label;
	if (!lacking(&input->container.labels, settings, &label)) {
		// The next policy decides.
		ret->is_some = false;
		return true;
	}
	text example = before(label, '=').len == label.len ? of("=VALUE") : of("");
	text words[] = {
		of("container "), input->container.name, of(" has no label "), label, of(": --label "), label, example,
	};
	*err = (exports_d2k_policy_workload_refusal_t){
		.message = joined(words, sizeof words / sizeof *words),
		.kind = {.tag = D2K_POLICY_TYPES_REFUSAL_KIND_FORBIDDEN},
	};
	return false;
}
