"""Files that several datasets share."""

import pytest


def _region(points):
    vertices = ''.join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    return f'<Region Id="1" Area="9.0"><Attributes/><Vertices>{vertices}</Vertices></Region>'


def _layer(name, outlines):
    return (
        f'<Annotation Id="1" Name="" Type="4"><Attributes><Attribute Name="{name}" Id="0" Value=""/></Attributes>'
        f'<Regions><RegionAttributeHeaders/>{"".join(map(_region, outlines))}</Regions><Plots/></Annotation>'
    )


@pytest.fixture(scope='session')
def write_imagescope():
    """Write outlines, lists of (x, y) by layer, as Aperio ImageScope does."""

    def write(path, layers, mpp=0.252):
        head = '' if mpp is None else f' MicronsPerPixel="{mpp:.6f}"'
        content = ''.join(_layer(name, outlines) for name, outlines in layers.items())
        path.write_text(f'<Annotations{head}>{content}</Annotations>')
        return path

    return write


@pytest.fixture
def source(tmp_path):
    """Folder of a user, without images yet."""
    folder = tmp_path / 'mine'
    (folder / 'images').mkdir(parents=True)
    return folder
