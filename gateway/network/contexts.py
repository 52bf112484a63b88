"""What the Storage SCP accepts: which SOP Classes, in which transfer syntaxes.

SOP Classes are the radiological image storage classes of PS3.4 B.5, named one by one. A class that no
pipeline can read (reports, presentation states, plans, waveforms, photographs, slides) is refused in the
negotiation, because an SCP that answers Success takes custody of the object. Secondary Capture is accepted:
derived series that come back must be seen to be recognised. Private classes are accepted where the settings name them.

Transfer syntaxes are those that this installation can decode, asked of the decoders themselves. Explicit VR
Little Endian comes first because the acceptor's order decides (PS3.8 9.3.3.2), then Implicit VR Little
Endian, then the compressed ones, lossless before lossy. Left out are JPEG Extended, for the decoders do not
take its 12-bit images, Deflated, for its size is known only after inflating, and Big Endian, which is retired.
"""

from __future__ import annotations

from functools import cache

from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext, build_context

VERIFICATION = UID("1.2.840.10008.1.1")
STORAGE_COMMITMENT = UID("1.2.840.10008.1.20.1")
"""Storage Commitment Push Model (PS3.4 Annex J)."""

IMAGE_STORAGE: tuple[UID, ...] = (
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForProcessing,
    uid.DigitalIntraOralXRayImageStorageForPresentation,
    uid.DigitalIntraOralXRayImageStorageForProcessing,
    uid.BreastTomosynthesisImageStorage,
    uid.BreastProjectionXRayImageStorageForPresentation,
    uid.BreastProjectionXRayImageStorageForProcessing,
    uid.CTImageStorage,
    uid.EnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.MRImageStorage,
    uid.EnhancedMRImageStorage,
    uid.EnhancedMRColorImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.EnhancedUSVolumeStorage,
    uid.XRayAngiographicImageStorage,
    uid.EnhancedXAImageStorage,
    uid.XRayRadiofluoroscopicImageStorage,
    uid.EnhancedXRFImageStorage,
    uid.XRay3DAngiographicImageStorage,
    uid.XRay3DCraniofacialImageStorage,
    uid.NuclearMedicineImageStorage,
    uid.PositronEmissionTomographyImageStorage,
    uid.EnhancedPETImageStorage,
    uid.LegacyConvertedEnhancedPETImageStorage,
    uid.RTImageStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
)

UNCOMPRESSED: tuple[UID, ...] = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)

_COMPRESSED: tuple[UID, ...] = (
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.RLELossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.HTJ2K,
    uid.JPEGBaseline8Bit,
)


@cache
def decodable_transfer_syntaxes() -> tuple[UID, ...]:
    """The transfer syntaxes whose pixel data this installation can decode, most wanted first."""
    return UNCOMPRESSED + tuple(syntax for syntax in _COMPRESSED if get_decoder(syntax).is_available)


@cache
def supported_contexts(
    private_sop_classes: tuple[str, ...] = (), *, commitment: bool = False
) -> tuple[PresentationContext, ...]:
    """The presentation contexts of the Storage SCP: Verification (PS3.2 7.1), image storage, and these classes.

    With `commitment` also Storage Commitment, in which the requestor may be the SCU, who asks, or the SCP, who reports.
    """
    storage = decodable_transfer_syntaxes()
    services = [build_context(VERIFICATION, list(UNCOMPRESSED))]
    if commitment:
        services.append(build_context(STORAGE_COMMITMENT, list(UNCOMPRESSED)))
        services[-1].scu_role = services[-1].scp_role = True
    sop_classes = (*IMAGE_STORAGE, *private_sop_classes)
    return (*services, *(build_context(sop_class, list(storage)) for sop_class in sop_classes))
