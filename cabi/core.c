/* Versions, start and end. */
#include "build_config.h" /* generated: BITNET_BUILD_VERSION */
#include "host.h"
#include "internal.h"

int bitnet_begin(void)
{
    bitnet_clear_last_error();
    return BITNET_ERROR_INTERNAL;
}

int bitnet_finish(int result)
{
    if (result < 0 && !bitnet_has_error())
        return bitnet_fail(result, "the Python side did not answer");
    return result;
}

uint32_t bitnet_abi_version(void)
{
    return BITNET_ABI_VERSION;
}

uint32_t bitnet_ffi_api_version(void)
{
    return 1;
}

uint32_t bitnet_ext_version(void)
{
    return BITNET_EXT_VERSION;
}

const char *bitnet_version(void)
{
    return BITNET_BUILD_VERSION;
}

int bitnet_init(void)
{
    (void)bitnet_begin();
    return bitnet_start();
}

int bitnet_cleanup(void)
{
    int result = bitnet_begin();
    if (!bitnet_is_running())
        return BITNET_SUCCESS;
    bitnet_host_cleanup(&result);
    bitnet_trim_heap();
    return bitnet_finish(result);
}
