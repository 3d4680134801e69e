// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

/// @notice A dollar as those that are worth one since their version 2.2: a payer that is a contract judges signatures.
contract WalletDollar is ERC3009 {
    constructor() ERC20("Wallet Dollar", "WAL") EIP712("Wallet Dollar", "1") {}

    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        bytes memory fields = abi.encode(
            TRANSFER_WITH_AUTHORIZATION_TYPEHASH, from, to, value, validAfter, validBefore, nonce
        );
        bytes32 digest = _hashTypedDataV4(keccak256(fields));
        require(SignatureChecker.isValidSignatureNow(from, digest, signature), ERC3009InvalidSignature());
        _transferWithAuthorization(from, to, value, validAfter, validBefore, nonce);
    }

    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }
}

/// @notice A wallet whose owner signs for it; it can be told to refuse, and to burn gas while it is asked.
contract Wallet is IERC1271 {
    address public immutable owner;
    uint256 public burns;

    constructor(address owner_) {
        owner = owner_;
    }

    function setBurns(uint256 gas_) external {
        burns = gas_;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        uint256 start = gasleft();
        while (start - gasleft() < burns) {}
        // The first 20 bytes say who signs, as several-owner wallets have it: so it is no plain signature.
        bool isOwner = address(bytes20(signature[:20])) == owner;
        bool isValid = isOwner && SignatureChecker.isValidSignatureNow(owner, digest, signature[20:]);
        return isValid ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}
