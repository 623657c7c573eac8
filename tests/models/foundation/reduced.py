"""Every entry of the catalogue at a size for tests: the same architecture, narrow and shallow."""

VIT = {'embed_dim': 24, 'depth': 2, 'num_heads': 3}
SAM = VIT | {'global_attn_indexes': (1,)}
HIERA = {'embed_dim': 8, 'num_heads': 1, 'stages': (1, 2, 2, 1), 'global_att_blocks': (4,)}
CONVNEXT = {'depths': (1, 1, 1, 1), 'dims': (4, 8, 12, 16)}


def reduced(entry):
    """Keyword arguments for `arch`."""
    if entry.encoder == 'sam':
        return SAM
    if entry.encoder == 'pyramid':
        return HIERA if 'hiera' in entry.arch else CONVNEXT
    return VIT
