"""What the main network itself signed: a call's content, and the certificate that came back."""

import pytest

from bridge import wire
from bridge.errors import CertificateError
from bridge.principal import Principal
from bridge.wire import hashtree

ROOT_KEY = bytes.fromhex(
    "308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100814c0e6ec71fab583b08"
    "bd81373c255c3c371b2e84863c98a4f1e08b74235d14fb5d9c0cd546d9685f913a0c0b2cc5341583bf4b4392e467db"
    "96d65b9bb4cb717112f8472e0d5a4d14505ffd7484b01291091c5f87b98883463f98091a0baaae"
)
CONTENT = bytes.fromhex(
    "d9d9f7a7636172674a4449444c000171026d656b63616e69737465725f69644a000000000150416801016e696e67"
    "726573735f6578706972791b17d934b8894238006b6d6574686f645f6e616d657067726565745f6e6f5f636f6e73"
    "656e74656e6f6e6365506a5256f3f3d22250368f7ab81c6ee8a26c726571756573745f747970656463616c6c6673"
    "656e646572581df8984c557cf36e3efaa54e2238a8bf7060974814d113cc44e2134c2302"
)
CERTIFICATE = bytes.fromhex(
    "d9d9f7a364747265658301830182045820b7a12d6e00001d7b5a3194d804fd7703aa74298e187fbcb0018d2e0a9e"
    "9c1c2083018204582018b35f47251888ef2249a921262a6204a1e5a274ceb4c27d16a98e14354a99b083024e7265"
    "71756573745f7374617475738301830183018301830182045820c828994049bf191b317b7f259e36ead0377b4777"
    "2605de4c2f78eb72ea2911468301820458209e23a333e6eaf9be81a2bef0de3258d7426afe9be6b6821cabebced0"
    "6e0dd3cd83018301820458203051b64eaffb40b0cf811e3e6dcb4944d567fa8a2a5049192198fb5641dc750e8301"
    "83018302582014893984af0b55317b39ee6240957b5196beb81eed9dcbe899c8aa055371de2e8301830245726570"
    "6c798203524449444c0001710a48656c6c6f2c206d65218302467374617475738203477265706c69656482045820"
    "69f29491f1e5893a563990092fd6b6176dea68d26a185766835da708bfe7de6f82045820a990eff8073e6649f62c"
    "7069aa3f3e15b68433d58d7940d5a8dbad865ac9b67f82045820113443f6ae85bc7105a375c4b091b1ab715ecd65"
    "25c54e3da54e00dce80e601482045820dd257d38162343b82d85081fe0dfc9c4552e37d59416743efbc59c3ef26f"
    "644a8204582039c48b8dbecc533a0531267ec16ebecc9b6d078a5fb75887b69c8e83341cd3fc82045820032d0860"
    "90b32ef766f2210864caa8daab2ea1aa0734faab931af3217cd4b8d082045820790e6809ccd9998cebb57ffb8793"
    "85ccdbbade20706e023e19ba82eff0c5d47e83018204582089d17bda6989ad3055320903b9844df579f47855e512"
    "a1637b4b6e383c86956183024474696d65820349d9b9f7dca290cdec17697369676e61747572655830a20c8aa671"
    "31c55be358d4c1d96aaeaab7984c16f7fcf34f4b2f0c1a09c9c101bbd104908349f1c16af693adb86471bb6a6465"
    "6c65676174696f6ea2697375626e65745f6964581d12790e7661fccd3d4fc83138dcaffd9f188e867b45ae10c883"
    "6dd0b8026b636572746966696361746559027dd9d9f7a26474726565830182045820664c5634d5e7b9b06eab90c6"
    "73f1477e9a3252eb1ad944ac5975588cdcc43a2d83018301820458203ec12417b417a48ccc5390cce8f831cd338a"
    "f3405e3191bf14750752c1046fe08302467375626e65748301830183018301830182045820d1d38ffcaefc49b641"
    "7ef6f5f39b4bae46280f55f4f5d8be681bd480083e8897830182045820051e96b350b6e2b39063d9d735fd9a6f13"
    "aa672fb140e3a6e7d8a095bf5ae0b08302581d12790e7661fccd3d4fc83138dcaffd9f188e867b45ae10c8836dd0"
    "b802830183024f63616e69737465725f72616e6765738203581bd9d9f781824a000000000150000001014a000000"
    "00015fffff010183024a7075626c69635f6b657982035885308182301d060d2b0601040182dc7c0503010201060c"
    "2b0601040182dc7c0503020103610086d88ebbd2f1663e65d3a3ff07e8ee9fa420d08b9a6822919f224b8b802d5d"
    "9be150dc493f84c23e73a0cc1d2c2ee28709ff140000128fcd5dfbd7b457ef3af344766d7ff0924fe7a7f456ded7"
    "7ca6de3b1b406b710c4eaed7287ab9a352766982045820d2a7094a8e959e47449b556f89ef1cd93e33d58d418838"
    "b4055fface457edf70820458204482234f0d06e2fbc8d9d97cfe484d8b2c7f50d9890b194189494ce20724040782"
    "045820b78e1a00011a1b04c3504d147453f0edabb16b036f6107ccb7833034527b0b83820458200eb946bc7142c1"
    "1243bae3e617ad8f5d921f04e88bb8a72fe07b781d906cc81c83024474696d6582034999ec86c4bbd7b5ec176973"
    "69676e617475726558308c7798d95265525c24e7eec131f112c6376200d14155f91f75fe2f881aa8830fcd1a229f"
    "ce12f012986f4c1cadbcf2b2"
)


@pytest.fixture
def content():
    return wire.decode_map(CONTENT, "the content", CertificateError)


@pytest.fixture
def certificate():
    return wire.Certificate.from_cbor(CERTIFICATE)


def test_the_main_network_s_certificate_proves_the_reply_to_its_request(content, certificate):
    canister_id = Principal(content["canister_id"])
    certificate.verify(ROOT_KEY, canister_id, now=certificate.time)
    path = (b"request_status", wire.request_id(content))
    assert certificate.lookup((*path, b"status")) == hashtree.Found(b"replied")
    assert certificate.lookup((*path, b"reply")) == hashtree.Found(b"DIDL\0\1q\nHello, me!")
    request = wire.parse_request(content)
    assert request.method_name == "greet_no_consent"
    assert wire.request_id(request.content()) == wire.request_id(content)


def test_the_main_network_s_certificate_comes_back_byte_for_byte(certificate):
    again = wire.Certificate.from_cbor(certificate.to_cbor())
    assert again == certificate
    assert again.tree.digest() == certificate.tree.digest()


def test_the_main_network_s_certificate_is_refused_where_it_proves_nothing(certificate, content):
    canister_id, now = Principal(content["canister_id"]), certificate.time
    elsewhere = Principal.from_text("ryjl3-tyaaa-aaaaa-aaaba-cai")
    with pytest.raises(CertificateError, match="may not speak of"):
        certificate.verify(ROOT_KEY, elsewhere, now=now)
    with pytest.raises(CertificateError, match="s old"):
        certificate.verify(ROOT_KEY, canister_id, now=now + wire.MAX_AGE + 1)
    with pytest.raises(CertificateError, match="may not speak of"):
        certificate.verify(ROOT_KEY, canister_id, now=now, sharded_ranges_only=True)
    bare = wire.Certificate(certificate.tree, certificate.signature)
    with pytest.raises(CertificateError, match="signature is not the subnet's"):
        bare.verify(ROOT_KEY, canister_id, now=now)
